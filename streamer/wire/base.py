"""What all that travels has in common: its version, and how strictly it is read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, ValidationError
from pydantic.json_schema import SkipJsonSchema

from streamer.errors import StreamerError

SCHEMA = 1
OTHER = "other"  # tag of what this version does not know: no wire value
Share = Annotated[float, Field(ge=0, le=1)]


class WireError(StreamerError, ValueError):
    """A value that cannot be written as a message, or bytes that are none of ours."""


class Wire(BaseModel):
    """A part of a message. Keys that this version does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Entry(Wire):
    """What stands for itself in a stream: whose it is, and of which frame."""

    version: Annotated[Literal[1], Field(alias="schema", description="version of this format")]
    camera: Annotated[str, Field(min_length=1)]
    seq: Annotated[NonNegativeInt, Field(description="counts grabbed frames, so gaps show drops")]
    pts: Annotated[FiniteFloat, Field(description="seconds of media time")]
    captured_at: Annotated[FiniteFloat, Field(description="Unix seconds")]
    missed: SkipJsonSchema[int] = Field(0, exclude=True)  # by this subscriber, since the entry before; not on the wire


def other_than(kinds: Collection[str]) -> Any:
    """Tell, in the schema of a *kind*, that it is none of these. Readers go by `kind_of` and need not be told."""
    return Field(json_schema_extra={"minLength": 1, "not": {"enum": [*sorted(kinds)]}})


def kind_of(value: Any) -> Any:
    """Return the *kind* of a part, read or not."""
    return value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)


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
