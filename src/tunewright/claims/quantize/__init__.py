"""Claims about fewer bits."""
