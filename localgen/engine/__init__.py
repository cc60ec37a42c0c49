"""The generation engine: token ids in, token ids out; it knows no text, no files and no llama.cpp.

One step of ``engine.Engine`` is: schedule → decode → advance → retire. ``scheduler`` chooses the
tokens of the next forward pass, ``kv_cache`` hands out seq_ids and knows what they hold,
``decoding`` is how a request turns logits into tokens, ``sampling`` chooses them, ``sequence`` is
one sequence in flight with its ``trackers``, and ``backend`` is the protocol of a model.
"""
