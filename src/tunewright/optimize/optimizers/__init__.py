"""Optimizers: how a gradient becomes a step."""

from tunewright.catalog import lazily

__getattr__ = lazily("optimizer")
