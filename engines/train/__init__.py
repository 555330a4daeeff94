"""Training: the losses of the papers, on data whose truth is known. Nothing that serves imports it."""
