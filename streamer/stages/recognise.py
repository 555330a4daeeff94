"""The node that says what clips show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from engines.types import Clip, Scores
from streamer.stages.progress import ActionOptions, Progress
from streamer.types import Action, ActionEnded, Actions, ActionStarted, Packet, Port, Windows

_NONE = Windows()


class Scorer(Protocol):
    """A `Recogniser`, or what stands for one."""

    def __call__(self, clips: Sequence[Clip], /) -> list[Scores]: ...
    def begin(self, clips: Sequence[Clip], /) -> Callable[[], list[Scores]]: ...
    def close(self) -> None: ...


class Recognise:
    """Score the windows that are complete, those of all cameras in one batch; scores are smoothed for each track.

    A packet gains a value where a window was scored, or where an action has started or ended. What ended with a break
    in the stream is told with the camera's next packet.
    """

    def __init__(
        self, model: Scorer, clips: Port[Windows], writes: Port[Actions], options: ActionOptions | None = None
    ) -> None:
        self._model, self._clips, self._writes = model, clips, writes
        options = options or ActionOptions()
        self._progress: defaultdict[str, Progress] = defaultdict(lambda: Progress(options))  # by camera
        self._owed: dict[str, list[ActionEnded]] = {}  # by camera: what its next packet has to tell
        self._broken: list[str] = []  # cameras, until the packets before their break are done

    @property
    def reads(self) -> tuple[Port[Any], ...]:
        return (self._clips,)

    @property
    def writes(self) -> Port[Actions]:
        return self._writes

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        clips = self._complete(packets)
        return self._put(packets, self._taken(), self._model(clips) if clips else [])

    def begin(self, packets: Sequence[Packet]) -> Callable[[], Sequence[Packet]]:
        """Begin with packets while the model works on those before."""
        clips, broken = self._complete(packets), self._taken()
        finish = self._model.begin(clips) if clips else list[Scores]
        return lambda: self._put(packets, broken, finish())

    def forget(self, camera: str) -> None:
        """End all that a camera's objects were doing, once what came before is done."""
        self._broken.append(camera)

    def close(self) -> None:
        self._model.close()

    def _complete(self, packets: Sequence[Packet]) -> list[Clip]:
        return [window.clip for packet in packets for window in (packet.get(self._clips) or _NONE).items]

    def _taken(self) -> list[str]:
        broken, self._broken = self._broken, []
        return broken

    def _put(self, packets: Sequence[Packet], broken: Sequence[str], scores: Sequence[Scores]) -> Sequence[Packet]:
        for camera in broken:
            if camera in self._progress and (ended := self._progress.pop(camera).end_all()):
                self._owed[camera] = ended
        rest = iter(scores)
        return [self._told(packet, rest) for packet in packets]

    def _told(self, packet: Packet, scores: Iterator[Scores]) -> Packet:
        windows, camera, pts = packet.get(self._clips), packet.frame.camera, packet.frame.pts
        events: list[ActionStarted | ActionEnded] = [*self._owed.pop(camera, ())]
        items: list[Action] = []
        if windows is not None:
            progress = self._progress[camera]
            for track in (*windows.gone, *progress.lost(pts)):
                events += progress.end(track)
            for window in windows.items:
                smoothed = Scores(progress.smoothed(window.track_id, next(scores).probs, pts))
                items.append(Action(window.track_id, window.first_seq, window.last_seq, smoothed))
                events += progress.changes(window.track_id)
        return packet.put(self._writes, Actions(tuple(items), tuple(events))) if items or events else packet
