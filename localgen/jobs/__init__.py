"""Jobs of many prompts, from one JSON Lines file to another, that can be resumed.

``rows`` reads the input, ``results`` writes the output, and ``job`` runs the rows in between.
"""
