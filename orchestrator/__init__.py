"""What to run, where it stands, what came out: Ray Tune and Train, Optuna, MLflow, pyarrow."""
