"""What a study shows: its page, charts and files, in MLflow and in optuna-dashboard."""
