"""The node that says what clips show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from engines.types import Clip, Scores
from streamer.stages.progress import ActionOptions, News
from streamer.types import Actions, Packet, Port, Windows

_NONE = Windows()


class Scorer(Protocol):
    """A `Recogniser`, or what stands for one."""

    def __call__(self, clips: Sequence[Clip], /) -> list[Scores]: ...
    def begin(self, clips: Sequence[Clip], /) -> Callable[[], list[Scores]]: ...
    def close(self) -> None: ...


class Recognise:
    """Score the windows that are complete, those of all cameras in one batch; scores are smoothed for each track.

    A packet gains a value where a window was scored, or where an action has started or ended. What ended with a break
    in the stream is told with the camera's next packet. Frames wait for the model: see `Aside` for where they must not.
    """

    def __init__(
        self, model: Scorer, clips: Port[Windows], writes: Port[Actions], options: ActionOptions | None = None
    ) -> None:
        self.model, self.clips, self._writes = model, clips, writes
        self.news = News(options or ActionOptions())
        self._broken: list[str] = []  # cameras, until the packets before their break are done

    @property
    def reads(self) -> tuple[Port[Any], ...]:
        return (self.clips,)

    @property
    def writes(self) -> Port[Actions]:
        return self._writes

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        clips = self._complete(packets)
        return self._put(packets, self._taken(), self.model(clips) if clips else [])

    def begin(self, packets: Sequence[Packet]) -> Callable[[], Sequence[Packet]]:
        """Begin with packets while the model works on those before."""
        clips, broken = self._complete(packets), self._taken()
        finish = self.model.begin(clips) if clips else list[Scores]
        return lambda: self._put(packets, broken, finish())

    def forget(self, camera: str) -> None:
        """End all that a camera's objects were doing, once what came before is done."""
        self._broken.append(camera)

    def close(self) -> None:
        self.model.close()

    def tell(self, packet: Packet) -> Packet:
        """Put what is new of the packet's camera."""
        news = self.news.take(packet.frame.camera)
        return packet if news is None else packet.put(self._writes, news)

    def _complete(self, packets: Sequence[Packet]) -> list[Clip]:
        return [window.clip for packet in packets for window in (packet.get(self.clips) or _NONE).items]

    def _taken(self) -> list[str]:
        broken, self._broken = self._broken, []
        return broken

    def _put(self, packets: Sequence[Packet], broken: Sequence[str], scores: Sequence[Scores]) -> Sequence[Packet]:
        for camera in broken:
            self.news.broken(camera)
        rest = iter(scores)
        return [self._told(packet, rest) for packet in packets]

    def _told(self, packet: Packet, scores: Iterator[Scores]) -> Packet:
        windows, camera, pts = packet.get(self.clips), packet.frame.camera, packet.frame.pts
        if windows is not None:
            self.news.gone(camera, windows.gone, pts)
            for window in windows.items:
                self.news.scored(camera, window, next(scores), pts)
        return self.tell(packet)
