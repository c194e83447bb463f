"""Small networks trained beside a frozen model."""
