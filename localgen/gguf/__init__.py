"""Read and check model files in pure Python, before llama.cpp sees them."""
