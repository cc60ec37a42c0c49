"""The generation engine: token ids in, token ids out; it knows nothing of text, files or llama.cpp.

One step of ``Engine`` is: schedule → decode → sample → finish. ``scheduler`` chooses the tokens
of the next forward pass, ``kv_cache`` hands out sequence slots and knows what they hold,
``sampling`` holds the pure filters, ``sampler`` composes them for one configuration, ``sequence``
is one row in flight, and ``backend`` is the protocol that a model must speak.
"""
