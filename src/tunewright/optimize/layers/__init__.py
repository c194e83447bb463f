"""Layer policies: which layers train when."""

from tunewright.catalog import lazily

__getattr__ = lazily("layers")
