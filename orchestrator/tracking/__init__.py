"""A run folder delivered to MLflow."""
