"""Constraints of texts: schemas, patterns, choices, grammars → matchers, by llguidance.

What cannot be enforced is refused before anything runs. It knows vocabularies, and no model.
"""
