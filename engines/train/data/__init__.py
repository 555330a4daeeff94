"""What networks are trained on: the synthetic world, or folders of the user's own."""
