"""Orders: how rows are drawn over a run."""

from tunewright.catalog import lazily

__getattr__ = lazily("order")
