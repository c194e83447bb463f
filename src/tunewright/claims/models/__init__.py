"""Claims about longer contexts and other vocabularies."""
