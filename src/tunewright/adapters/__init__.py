"""Adapters: which parameters exist and are trained."""

from tunewright.catalog import lazily

__getattr__ = lazily("adapter")
