"""The interface to llama.cpp: the only folder that imports llama_cpp or sees a pointer.

library.py    loads llama.cpp, routes its log      devices.py   devices of this build
loading.py    loads a model, frees its C objects   fitting.py   does a model fit the memory?
backend.py    forward passes of a loaded model     context.py   its KV cache and batches
vocab.py      text bytes ↔ token ids               vocab_stack.py  on a stack that lasts
baseline.py   llama.cpp alone, for benchmarks      quantize.py  one run of the quantizer
amx.py        are the AMX kernels safe?
"""
