"""Metrics: pure functions with a known value on a known case."""
