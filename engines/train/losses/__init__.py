"""What networks are trained to make small, one file a paper."""
