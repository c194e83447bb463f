"""Scales and shifts of what modules put out."""
