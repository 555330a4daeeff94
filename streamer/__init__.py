"""Real-time video analytics: cameras in, typed results out."""

__version__ = "0.1.0"
