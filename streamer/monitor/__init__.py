"""Count what a pipeline does: FPS, drops by reason, latency from step to step and from end to end."""

from streamer.monitor.meters import WINDOW, Latency, Rate
from streamer.monitor.monitor import Monitor

__all__ = ["WINDOW", "Latency", "Monitor", "Rate"]
