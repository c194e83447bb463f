"""Formats: how the rows of a file become records."""

from tunewright.catalog import lazily

__getattr__ = lazily("format")
