"""Claims about what is trained."""
