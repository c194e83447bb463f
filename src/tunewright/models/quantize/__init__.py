"""Quantizers: frozen weights in fewer bits."""

from tunewright.catalog import lazily

__getattr__ = lazily("quantizer")
