"""Regularizers: what is added to the loss or the step, whatever the objective."""

from tunewright.catalog import lazily

__getattr__ = lazily("regularizer")
