"""Model files at other quantization levels."""
