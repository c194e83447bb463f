"""Claims about choosing hyperparameters and forecasting results."""
