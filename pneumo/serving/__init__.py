"""A trained model at work: on files, and in MLflow's registry."""
