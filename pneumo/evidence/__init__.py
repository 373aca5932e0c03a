"""What a trained model is worth, and where it looks."""
