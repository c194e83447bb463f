"""Contexts: models that take longer sequences than they were made for."""

from tunewright.catalog import lazily

__getattr__ = lazily("context")
