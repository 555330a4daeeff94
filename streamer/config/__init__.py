"""A pipeline as its user writes it: read, overridden, checked, frozen; every fault is one line that says where."""

from streamer.config.model import (
    SINKS,
    Camera,
    JsonLines,
    Limits,
    Monitoring,
    Pipeline,
    Publish,
    Reconnect,
    Redis,
    Runtime,
    Video,
)
from streamer.config.motion import Clips, Flow, Lines, Recognise, Track, Zones
from streamer.config.node import Node
from streamer.config.nodes import NODES, Detect, FindObjects, Segment, Tiles, Truth, kind_for
from streamer.config.pythonnode import Python
from streamer.config.reader import RESERVED, parse, parse_camera, read
from streamer.config.values import parse_duration

__all__ = [
    "NODES",
    "RESERVED",
    "SINKS",
    "Camera",
    "Clips",
    "Detect",
    "FindObjects",
    "Flow",
    "JsonLines",
    "Limits",
    "Lines",
    "Monitoring",
    "Node",
    "Pipeline",
    "Publish",
    "Python",
    "Recognise",
    "Reconnect",
    "Redis",
    "Runtime",
    "Segment",
    "Tiles",
    "Track",
    "Truth",
    "Video",
    "Zones",
    "kind_for",
    "parse",
    "parse_camera",
    "parse_duration",
    "read",
]
