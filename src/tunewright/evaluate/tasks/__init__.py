"""Evaluation tasks: what is measured before and after."""

from tunewright.catalog import lazily

__getattr__ = lazily("task")
