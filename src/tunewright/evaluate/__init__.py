"""Measuring a model: tasks, metrics, statistics."""
