"""A recogniser that works beside the frames of live cameras, which do not wait for it."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engines.types import Scores
from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.events import Observer, WorkShed, ignore
from streamer.stages.around import Around
from streamer.stages.recognise import Recognise
from streamer.stages.turns import Pace, Turn, Turns
from streamer.types import Packet, Windows

log = logging.getLogger(__name__)

_PATIENCE = 2.0  # seconds that the batch under way gets to end when the stage is closed


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of a recogniser's work there is at a time."""

    batch: int = 8  # windows that the model looks at together, at most
    waiting: int = 16  # windows of a camera that wait
    late: float = 5.0  # seconds of media time after which one that waits is given up: that was long ago


class Aside(Around):
    """Let one thread score windows while packets go on; a camera's next packets tell what was scored meanwhile.

    At most one window a track waits: where the model cannot keep up, it sees the newest of each track, the tracks in
    turn, and what it never sees is observed as `WorkShed`. A track that is gone ends when its last window was scored or
    has waited for too long. A break in the stream gives up the camera's windows and ends its actions.

    A camera takes `Bounds.waiting` windows at most, and `Bounds.batch` are with the model: each of length x height x
    width x 3 bytes, 11 with flow. What the model raises is raised by the next `process`, and the windows until then are
    given up; the one after that goes on.
    """

    def __init__(
        self,
        stage: Recognise,
        bounds: Bounds | None = None,
        observer: Observer = ignore,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(stage)
        bounds = bounds or Bounds()
        self._recognise, self._observer, self._clock = stage, observer, clock
        self._turns, self._pace = Turns(bounds.waiting, bounds.late), Pace(bounds.batch)
        self._changed = threading.Condition()  # guards what follows, and the turns
        self._over: list[tuple[Turn, Scores | None]] = []  # None: it was given up
        self._fault: BaseException | None = None
        self._began_ns: int | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> float:
        """Seconds that the model has been at its present batch; 0 when it has none."""
        began = self._began_ns
        return 0.0 if began is None else (self._clock.monotonic_ns() - began) / 1e9

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        """Hand over windows that are complete, and tell what was scored. Raises what the model has raised."""
        self._collect()
        self._raise_fault()
        return [self._passed(packet) for packet in packets]

    def forget(self, camera: str) -> None:
        """Give up the windows of a camera, and end all that its objects were doing."""
        self._collect()
        with self._changed:
            dropped = self._turns.drop(camera)
        self._shed(turn.camera for turn in dropped)
        self._recognise.news.broken(camera)

    def close(self) -> None:
        """End the thread and close the model; a batch that takes too long is left behind with both."""
        with self._changed:
            self._closed, fault = True, self._fault
            left = self._turns.drop()
            self._changed.notify_all()
        self._shed(turn.camera for turn in left)
        if fault is not None:
            log.warning("node %s: its model failed when nobody was left to hear of it: %s", self.writes.node, fault)
        if self._thread is not None:
            self._thread.join(_PATIENCE)
            if self._thread.is_alive():  # closed under its hands, a model may take the whole process with it
                log.warning("node %s: its model did not end in time and is left behind", self.writes.node)
                return
        super().close()

    # --- with the packets ---

    def _passed(self, packet: Packet) -> Packet:
        windows = packet.get(self._recognise.clips)
        if windows is not None:
            self._hand_over(packet, windows)
        return self._recognise.tell(packet)

    def _hand_over(self, packet: Packet, windows: Windows) -> None:
        camera, pts = packet.frame.camera, packet.frame.pts
        with self._changed:
            gone = [track for track in windows.gone if not self._turns.leave(camera, track)]
            shed = sum(self._turns.offer(camera, window, pts) for window in windows.items)
            self._changed.notify_all()
        self._recognise.news.gone(camera, gone, pts)
        self._shed([camera] * shed)
        if self._thread is None and windows.items:
            name = f"stage {self.writes.node} aside"
            self._thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._thread.start()

    def _collect(self) -> None:
        """Take what is over and done with since the last time."""
        with self._changed:
            over, self._over = self._over, []
            for turn, _ in over:
                self._turns.done(turn)
        wanted = [(turn, scores) for turn, scores in over if not turn.void]
        for turn, scores in wanted:
            if scores is not None:
                self._recognise.news.scored(turn.camera, turn.window, scores, turn.pts)
            self._end(turn)
        self._shed(turn.camera for turn, scores in wanted if scores is None)

    def _end(self, turn: Turn) -> None:
        """End what its track was doing, if this was its last window."""
        if turn.last:
            self._recognise.news.gone(turn.camera, [turn.window.track_id], turn.pts)

    def _raise_fault(self) -> None:
        with self._changed:
            fault, self._fault = self._fault, None
            dropped = [] if fault is None else self._turns.drop()
        self._shed(turn.camera for turn in dropped)
        for turn in dropped:
            self._end(turn)
        if fault is not None:
            raise fault

    def _shed(self, cameras: Iterable[str]) -> None:
        for camera, count in Counter(cameras).items():
            self._observer(WorkShed(self.writes.node, camera, count))

    # --- the thread ---

    def _work(self) -> None:
        while turns := self._next():
            began = self._began_ns = self._clock.monotonic_ns()
            try:
                scores = self._recognise.model([turn.window.clip for turn in turns])
                scored = list(zip(turns, scores, strict=True))
            except BaseException as error:  # noqa: BLE001 - a thread's border: `process` raises it again
                with self._changed:
                    self._fault = error
            else:
                self._pace.took(len(turns), (self._clock.monotonic_ns() - began) / 1e9)
                with self._changed:
                    self._over += scored
            self._began_ns = None

    def _next(self) -> list[Turn]:
        """Wait for windows, but with a fault until it was raised; nothing at the end."""
        with self._changed:
            while not self._closed:
                self._over += [(turn, None) for turn in self._turns.overdue()]
                if len(self._turns) and self._fault is None:
                    return self._turns.take(self._pace.size)
                self._changed.wait()
        return []
