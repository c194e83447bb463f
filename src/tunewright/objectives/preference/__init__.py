"""Objectives over pairs of answers and judged answers."""
