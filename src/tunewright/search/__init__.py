"""Choosing hyperparameters: the space, and proposals from it."""
