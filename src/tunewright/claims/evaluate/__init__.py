"""Claims about measuring models."""
