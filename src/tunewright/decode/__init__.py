"""Decoders: what changes the tuned model's next token when it answers."""

from tunewright.catalog import lazily

__getattr__ = lazily("decoder")
