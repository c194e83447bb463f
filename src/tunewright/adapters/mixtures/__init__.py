"""Mixtures: experts among which a router chooses, token by token."""
