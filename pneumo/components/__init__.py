"""What a configuration can choose: augmentations, models, losses, optimizers and learning rate schedules."""
