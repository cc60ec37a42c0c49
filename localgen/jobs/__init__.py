"""Jobs of many prompts, from a JSON-lines file to another one, that can be gone on with.

``rows`` reads the input, ``results`` keeps the output file, and ``job`` runs the rows between.
"""
