"""Network outputs to values, one file a family."""
