"""What the values of a pipeline file are made of."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(value: object) -> float:
    """Turn "150ms", "30s", "5m" or "1h" into seconds; a bare number has no unit and is refused."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('not a duration; write it with its unit, such as "150ms", "30s", "5m" or "1h"')
    return float(match[1]) * _SECONDS[match[2]]


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=86400 * 365)]


def parse_size(value: object) -> tuple[int, int]:
    """Turn "1280x720" into (width, height)."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or min(int(match[1]), int(match[2])) < _LEAST_SIDE:
        raise ValueError(f"not a size; write WIDTHxHEIGHT in pixels, at least {_LEAST_SIDE} each, such as 1280x720")
    return int(match[1]), int(match[2])


def parse_listen(value: object) -> tuple[str, int]:
    """Turn "10.0.0.1:9464", ":9464" (every interface) or "9464" (this machine alone) into (host, port)."""
    match = _LISTEN.fullmatch(str(value).strip()) if isinstance(value, str | int) else None
    if match is None or int(match[2]) > _MOST_PORT:
        raise ValueError('not an address; write "HOST:PORT", ":PORT" for every interface, or PORT for this machine')
    return ("127.0.0.1" if match[1] is None else match[1].strip("[]") or "0.0.0.0"), int(match[2])  # noqa: S104 - asked for


_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_LEAST_SIDE = 16
_LISTEN = re.compile(r"(?:(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]*):)?(\d{1,5})")
_MOST_PORT = 65535

Size = Annotated[tuple[int, int], BeforeValidator(parse_size)]
Listen = Annotated[tuple[str, int], BeforeValidator(parse_listen)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]


class Strict(BaseModel):
    """Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
