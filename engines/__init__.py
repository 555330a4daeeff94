"""Vision models on whatever accelerator there is: arrays in, values out."""
