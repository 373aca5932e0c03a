"""One run, from its configuration to MLflow and back."""
