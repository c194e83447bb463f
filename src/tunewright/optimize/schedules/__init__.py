"""Schedules: how the learning rate moves over a run."""

from tunewright.catalog import lazily

__getattr__ = lazily("schedule")
