"""Objectives over demonstrations."""
