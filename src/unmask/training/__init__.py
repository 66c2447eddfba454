"""Training: the trainer, its optimizers, its checkpoints and its callbacks."""
