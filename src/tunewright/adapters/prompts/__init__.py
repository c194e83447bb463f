"""Trained vectors that the model reads beside the tokens."""
