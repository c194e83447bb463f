"""Claims about what is minimised."""
