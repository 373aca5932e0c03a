"""Detects pneumothorax in chest X-rays: a Hydra-configured trainer with every run in MLflow."""
