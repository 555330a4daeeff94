"""Draw what was found onto a copy of the image."""

from streamer.draw.annotator import Annotator
from streamer.draw.canvas import Colour, Layer, Mark, Pen, colour, describe, draw
from streamer.draw.flow import draw_arrows, hues, paint_flow, wheel
from streamer.draw.tails import Tail, Tails

__all__ = [
    "Annotator",
    "Colour",
    "Layer",
    "Mark",
    "Pen",
    "Tail",
    "Tails",
    "colour",
    "describe",
    "draw",
    "draw_arrows",
    "hues",
    "paint_flow",
    "wheel",
]
