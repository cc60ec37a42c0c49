"""Mixtures of tensor types that fit a model into a size or a loss."""
