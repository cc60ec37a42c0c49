"""The seam to llama.cpp: the only folder that imports llama_cpp or sees a pointer.

``library`` loads it and routes its log, ``gguf`` looks at a file before C does, ``devices`` tells
what the machine and the build offer, ``vocab`` is text ↔ ids, ``backend`` runs forward passes.
"""
