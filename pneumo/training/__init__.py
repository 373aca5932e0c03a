"""The training loop and what it needs; knows neither MLflow nor Hydra nor Optuna."""
