"""A lamp that blinks: a source, a node, a sink and a decoder, each under the name that pyproject.toml gives it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from engines.decoders.own import Candidates
from engines.types import Array, Detections
from streamer.build import Outlet
from streamer.config import Publish
from streamer.events import Observer
from streamer.sinks.base import Sink
from streamer.sources.address import Address, SourceOptions
from streamer.types import Frame, Note, Packet, RawFrame
from streamer.wire import Encoder


@dataclass(frozen=True)
class Blink:
    """Shows a lamp that is on for five frames, and off for five."""

    camera: str
    frames: int
    live: bool = False

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        yield (RawFrame(i / 10, partial(self._picture, on=i // 5 % 2 == 0)) for i in range(self.frames))

    def _picture(self, *, on: bool) -> Array:
        image = np.zeros((64, 64, 3), np.uint8)
        image[16:24, 32:40] = 255 if on else 0
        return image


def blink(camera: str, address: Address, _options: SourceOptions, _observer: Observer) -> Blink:
    """Make the source of ``blink://?frames=20``."""
    return Blink(camera, int(address.settings.get("frames", "20")))


class Lamp:
    """Tells whether the lamp is on, and when it is switched."""

    reads = (Detections,)
    writes = Note

    def __init__(self, least: int = 1) -> None:
        self._least, self._on = least, False

    def __call__(self, frame: Frame, spots: Detections | None) -> Note:
        was, self._on = self._on, spots is not None and len(spots) >= self._least
        switched = [] if was == self._on else [{"kind": "lamp_on" if self._on else "lamp_off", "pts": frame.pts}]
        return Note("lamp", {"on": self._on}, switched)


class Alerts(Publish):
    """A file with one event a line."""

    kind: Literal["alerts"]
    path: Path

    def open(self, outlet: Outlet) -> Sink:
        return AlertFile(self.path, outlet.encoder(self.nodes))


class AlertFile:
    """Writes events as they travel."""

    name = "alerts"

    def __init__(self, path: Path, encode: Encoder) -> None:
        self._file, self._encode = path.open("ab"), encode

    def publish(self, packets: Sequence[Packet]) -> None:
        for packet in packets:
            self._file.writelines(event + b"\n" for event in self._encode.beside(packet).events)

    def close(self) -> None:
        self._file.close()


class Heat:
    """Reads a network that gives each cell of the image a score: (N, 1, height / cell, width / cell)."""

    def __init__(self, _classes: int, _size: tuple[int, int], cell: int = 8) -> None:
        self._cell = cell

    def __call__(self, outputs: Mapping[str, Array]) -> list[Candidates]:
        (heat,) = outputs.values()
        return [self._spots(scores) for scores in heat[:, 0]]

    def _spots(self, scores: Array) -> Candidates:
        row, column = np.nonzero(scores > 0)
        corner = np.stack([column, row, column + 1, row + 1], 1) * self._cell
        return Candidates(corner, scores[row, column], np.zeros(len(row)))
