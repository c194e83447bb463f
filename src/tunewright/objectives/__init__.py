"""Objectives: what is minimised."""

from tunewright.catalog import lazily

__getattr__ = lazily("objective")
