"""What a node of a user's own has to say about a frame: plain JSON, checked where it is made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

# Kinds whose fields are ours: a note or an event of a user's own has another.
RESULTS = frozenset({"detections", "flow", "actions", "lines", "zones"})
EVENTS = frozenset({"line_crossed", "zone_entered", "zone_left", "action_started", "action_ended"})


@dataclass(frozen=True, slots=True, eq=False)
class Note:
    """A value of one's own: ``{"kind": kind, **data}`` among a message's results.

    Each of *events* has a "kind", may have the "pts" at which it happened, and goes to the stream of events as well.
    Everything is copied, so what is done to *data* later changes nothing; numbers and arrays of NumPy become plain.
    Raises TypeError or ValueError for what JSON cannot hold.
    """

    kind: str
    data: Mapping[str, object]  # JSON, which is checked here: types would refuse most of what is written
    events: Sequence[Mapping[str, object]] = ()

    def __post_init__(self) -> None:
        _check_kind(self.kind, RESULTS, "a note")
        object.__setattr__(self, "data", _copy(self.data, f"note {self.kind}"))
        if taken := self.data.keys() & {"kind", "events"}:
            raise ValueError(f"note {self.kind}: {taken.pop()!r} is written beside the data; use another key")
        object.__setattr__(self, "events", tuple(self._events()))

    def _events(self) -> Iterator[Mapping[str, object]]:
        for index, event in enumerate(self.events):
            where = f"note {self.kind}: events[{index}]"
            plain = _copy(event, where)
            _check_kind(plain.get("kind"), EVENTS, f"{where}, an event,")
            if not isinstance(plain.get("pts", 0.0), int | float):
                raise TypeError(f"{where}: pts is in seconds, not {type(plain['pts']).__name__}")
            yield plain


def _check_kind(kind: object, ours: frozenset[str], what: str) -> None:
    if not isinstance(kind, str) or not kind:
        raise TypeError(f"{what} needs a kind, a text that says what it is, not {kind!r}")
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in kind):  # halves of letters, which UTF-8 cannot hold
        raise ValueError(f"{what} cannot be of kind {kind!r}: it is no text; use letters")
    if kind in ours:
        raise ValueError(f"{what} cannot be of kind {kind!r}: the streamer's own values are; choose another word")


def _copy(data: object, where: str) -> Mapping[str, JSON]:
    if not isinstance(data, Mapping):
        raise TypeError(f"{where}: is {type(data).__name__}, but its fields come as a mapping with texts as keys")
    return MappingProxyType(_mapping(data, where))


def _plain(value: object, where: str) -> JSON:
    """Copy what JSON can hold; *where* begins the message about what it cannot."""
    match value:
        case None | bool() | np.bool_():
            return None if value is None else bool(value)
        case str():
            return _text(value, where)
        case int() | np.integer():
            return int(value)
        case float() | np.floating():
            if not math.isfinite(value):
                raise ValueError(f"{where}: {value} is not finite, and JSON has no such number; leave it out")
            return float(value)
        case np.ndarray():
            return _plain(value.tolist(), where)
        case Mapping():
            return _mapping(value, where)
        case list() | tuple():
            return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{where}: {type(value).__name__} has no form in JSON; make numbers, texts or lists of it")


def _mapping(value: Mapping[object, object], where: str) -> dict[str, JSON]:
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{where}: key {key!r} is {type(key).__name__}, but keys in JSON are texts; write str(…)")
    return {_text(str(key), where): _plain(item, f"{where}.{key}") for key, item in value.items()}


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: {value!r} is no text that UTF-8 can hold; decode it properly") from error
    return str(value)
