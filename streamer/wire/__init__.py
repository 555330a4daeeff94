"""Packet <-> bytes: schema 1, whose field names and units are public API."""

from streamer.wire.encode import Encoder
from streamer.wire.ids import PREFIX, EntryId, Keys, entry_id
from streamer.wire.messages import (
    SCHEMA,
    Action,
    ActionsResult,
    Detection,
    DetectionsResult,
    FlowResult,
    LabelScore,
    MaskRle,
    Message,
    OtherResult,
    WireError,
    decode,
)
from streamer.wire.metrics import CameraMetrics, Metrics, SinkMetrics, decode_metrics, encode_camera, encode_metrics

__all__ = [
    "PREFIX",
    "SCHEMA",
    "Action",
    "ActionsResult",
    "CameraMetrics",
    "Detection",
    "DetectionsResult",
    "Encoder",
    "EntryId",
    "FlowResult",
    "Keys",
    "LabelScore",
    "MaskRle",
    "Message",
    "Metrics",
    "OtherResult",
    "SinkMetrics",
    "WireError",
    "decode",
    "decode_metrics",
    "encode_camera",
    "encode_metrics",
    "entry_id",
]
