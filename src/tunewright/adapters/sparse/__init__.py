"""Few of the model's own weights, trained as a difference from them."""
