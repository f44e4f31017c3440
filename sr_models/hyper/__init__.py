"""The networks' declared hyperparameters; no torch."""
