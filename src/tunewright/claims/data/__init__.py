"""Claims about data and how it is read."""
