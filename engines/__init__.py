"""Vision models on whatever accelerator there is: arrays in, values out."""

import os

# ONNX Runtime 1.31 keeps a device's id and a database in the user's cache; only this stops it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
