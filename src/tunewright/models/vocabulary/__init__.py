"""Vocabularies: models that read and write other tokens than they were trained with."""

from tunewright.catalog import lazily

__getattr__ = lazily("vocabulary")
