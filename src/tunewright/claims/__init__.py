"""Headline claims of papers, each re-run in miniature and judged by a rule that stands before the run."""

from tunewright.catalog import lazily

__getattr__ = lazily("claim")
