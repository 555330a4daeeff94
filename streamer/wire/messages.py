"""Messages as their consumers see them: frozen, typed, and tolerant of what a newer producer adds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    Tag,
    ValidationError,
)
from pydantic.json_schema import SkipJsonSchema

from streamer.errors import StreamerError

SCHEMA = 1
Share = Annotated[float, Field(ge=0, le=1)]


class WireError(StreamerError, ValueError):
    """A value that cannot be written as a message, or bytes that are none of ours."""


class Wire(BaseModel):
    """A part of a message. Keys that this version does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class MaskRle(Wire):
    """A mask over the whole source image."""

    size: Annotated[tuple[PositiveInt, PositiveInt], Field(description="height and width in pixels")]
    counts: Annotated[str, Field(description="run lengths, compressed as COCO does it")]


class Detection(Wire):
    """One object."""

    box: Annotated[
        tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat],
        Field(description="x1, y1, x2, y2 in pixels of the source image"),
    ]
    label: str
    class_id: int
    confidence: Share
    track_id: Annotated[int | None, Field(description="absent when nothing tracks")] = None
    mask: Annotated[MaskRle | None, Field(description="absent when nothing segments")] = None


class DetectionsResult(Wire):
    """Objects found in the frame."""

    kind: Literal["detections"]
    items: tuple[Detection, ...]


class Magnitude(Wire):
    """Lengths of the flow vectors, in pixels of the flow's own grid."""

    mean: FiniteFloat
    p95: Annotated[FiniteFloat, Field(description="95th percentile")]


class Grid(Wire):
    """The flow averaged over cells of equal size."""

    size: Annotated[tuple[PositiveInt, PositiveInt], Field(description="rows and columns")]
    uv: Annotated[tuple[tuple[FiniteFloat, FiniteFloat], ...], Field(description="one u, v a cell, row by row")]


class FlowResult(Wire):
    """Motion since the frame before, in pixels of the flow's own grid."""

    kind: Literal["flow"]
    mean: Annotated[tuple[FiniteFloat, FiniteFloat], Field(description="u, v averaged over the frame")]
    magnitude: Magnitude
    grid: Grid


class LabelScore(Wire):
    label: str
    score: Share


class Action(Wire):
    """What one clip shows."""

    track_id: Annotated[int | None, Field(description="absent when the clip is the whole frame")] = None
    first_seq: Annotated[NonNegativeInt, Field(description="seq of the clip's first frame")]
    last_seq: Annotated[NonNegativeInt, Field(description="seq of the clip's last frame")]
    labels: Annotated[tuple[LabelScore, ...], Field(description="the likeliest, best first")]


class ActionsResult(Wire):
    """Actions recognised at this frame."""

    kind: Literal["actions"]
    items: tuple[Action, ...]


class OtherResult(BaseModel):
    """A result of a kind that this version does not know; `model_extra` holds its fields as they came."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str


OTHER = "other"  # tag of OtherResult: no wire value
_KINDS = {"detections", "flow", "actions"}


def _kind(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if kind in _KINDS else OTHER


Result = Annotated[
    Annotated[DetectionsResult, Tag("detections")]
    | Annotated[FlowResult, Tag("flow")]
    | Annotated[ActionsResult, Tag("actions")]
    | Annotated[OtherResult, Tag(OTHER)],
    Discriminator(_kind),
]


class Message(Wire):
    """Everything found out about one frame of one camera."""

    version: Annotated[Literal[1], Field(alias="schema", description="version of this format")]
    camera: Annotated[str, Field(min_length=1)]
    seq: Annotated[NonNegativeInt, Field(description="counts grabbed frames, so gaps show drops")]
    pts: Annotated[FiniteFloat, Field(description="seconds of media time")]
    captured_at: Annotated[FiniteFloat, Field(description="Unix seconds")]
    size: Annotated[
        tuple[PositiveInt, PositiveInt], Field(description="width and height of the source image in pixels")
    ]
    results: Annotated[dict[str, Result], Field(description="by graph node, in graph order")]
    latency_ms: Annotated[
        dict[str, FiniteFloat],
        Field(description="milliseconds by step, waiting included; 'total' runs from the grab and is their sum"),
    ]
    missed: SkipJsonSchema[int] = Field(
        0, exclude=True
    )  # by this subscriber, since the message before; not on the wire


def decode(data: bytes | str) -> Message:
    """Read one message. Raise WireError when *data* is none, or of another schema version."""
    try:
        return Message.model_validate_json(data)
    except ValidationError as error:
        raise WireError(explain(error, "message")) from error


def explain(error: ValidationError, what: str) -> str:
    """Say in one sentence what is wrong with a *what*: its version first, for that explains everything else."""
    faults = error.errors(include_url=False, include_context=False)
    for fault in faults:
        if fault["loc"] == ("schema",) and fault["type"] != "missing":
            return (
                f"{what}: has schema {fault['input']!r}, but this streamer reads schema {SCHEMA}; update the older side"
            )
    where = ".".join(str(part) for part in faults[0]["loc"])
    return f"{what}: is not valid{' at ' + where if where else ''}: {faults[0]['msg']}; check who writes to this key"
