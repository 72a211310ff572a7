"""What a model needs of its GPUs."""
