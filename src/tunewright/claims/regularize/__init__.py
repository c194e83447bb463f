"""Claims about regularizers."""
