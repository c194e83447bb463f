"""Augmentations: other or further records in the place of those read."""

from tunewright.catalog import lazily

__getattr__ = lazily("augment")
