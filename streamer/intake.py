"""The mailbox of one camera: the one place where frames are dropped, each with its reason."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engines.types import Image
from streamer.mailbox import Closed
from streamer.types import Drop, Frame

_LATE, _SKIPPED = "late", "skipped"
_THINNEST = 64  # a camera that is thinned out keeps at least each so many-th frame
_CALM = 96  # frames in a row of which none finds the mailbox full, after which a camera is thinned out less


@dataclass(frozen=True, slots=True, eq=False)
class Grabbed:
    """A frame whose pixels nobody has asked for yet."""

    camera: str
    seq: int
    pts: float
    captured_at: float
    grabbed_ns: int
    to_rgb: Callable[[], Image]
    epoch: int = 0  # counts the breaks of this stream, so that a drop cannot hide one

    def frame(self) -> Frame:
        return Frame(self.camera, self.seq, self.pts, self.captured_at, self.grabbed_ns, self.to_rgb())


@dataclass(frozen=True, slots=True)
class Admission:
    """Which frames of a camera get in, and how they rank among those of others."""

    fps: float | None = None  # at most so many a second of media time; None: all
    priority: float = 1.0  # under overload, 2 gets twice the frames of 1
    drop: Drop | None = None  # None: newest for a live camera, block for a recording
    paused: bool = False  # not connected until it is resumed


class Pace:
    """Let through so many frames a second of media time, evenly and without drifting."""

    def __init__(self, fps: float) -> None:
        self._step = 1 / fps
        self._due: float | None = None
        self._before = 0.0  # the frame before, admitted or not
        self._epoch = 0

    def admits(self, pts: float, epoch: int) -> bool:
        """Tell whether this frame is the one that comes nearest to the moment when one is due."""
        early = min((pts - self._before) / 2, self._step / 4)
        self._before = pts
        if self._due is None or epoch != self._epoch or pts >= self._due + self._step:
            self._due, self._epoch = pts + self._step, epoch
            return True
        if pts < self._due - early:
            return False
        self._due += self._step
        return True


class Intake:
    """Frames of one camera, between its grabber and the batcher. Here the grabber waits while it is full."""

    drops = False  # whether frames are given up so that none gets old

    def __init__(self, capacity: int, admission: Admission, changed: threading.Condition, on_drop: OnDrop) -> None:
        """All intakes of a batcher share *changed*; *on_drop* is told a reason and a count, outside its lock."""
        self.priority = admission.priority
        self._pace = None if admission.fps is None else Pace(admission.fps)
        self._frames: deque[Grabbed] = deque()
        self._capacity, self._changed, self._on_drop = capacity, changed, on_drop
        self._room = threading.Event()  # of its own: whoever takes from one camera wakes no other's grabber
        self._room.set()
        self._ended: str | None = None  # once closed: what a frame that comes too late is dropped for

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def finished(self) -> bool:
        """Whether nothing is left and nothing will come."""
        return self._ended is not None and not self._frames

    @property
    def oldest_ns(self) -> int | None:
        """When the frame was grabbed that has waited longest."""
        return self._frames[0].grabbed_ns if self._frames else None

    def put(self, frame: Grabbed) -> None:
        """Add a frame, or drop one by the policy; raise Closed if nobody will take it."""
        self._make_ready()
        with self._changed:
            if self._ended is not None:
                raise Closed(self._ended)
            dropped = Counter({_SKIPPED: 1}) if self._above_target(frame) else self._insert(frame)
            if len(self._frames) >= self._capacity:
                self._room.clear()
            self._changed.notify_all()
        self.report(dropped)

    def take(self, keep: int = 1) -> tuple[Grabbed | None, Mapping[str, int]]:
        """Return the frame whose turn it is, if any, and what was dropped for it, which `report` is for.

        Of a camera that is dropping frames *keep* may be taken soon, and it makes no sense to keep more.
        """
        with self._changed:
            dropped = self._choose(keep)
            taken = self._frames.popleft() if self._frames else None
            self._room.set()
        return taken, dropped

    def report(self, dropped: Mapping[str, int]) -> None:
        """Tell of frames that `take` has dropped, once no lock is held."""
        for reason, count in dropped.items():
            if count:
                self._on_drop(reason, count)

    def close(self) -> None:
        """Refuse new frames; what is inside can still be taken."""
        self._end("stopped")

    def discard(self, reason: str) -> None:
        """Close, and drop what is inside, and what may still come, for *reason*."""
        with self._changed:
            self._end(reason)
            count = len(self._frames)
            self._frames.clear()
        self.report({reason: count})

    def _end(self, reason: str) -> None:
        with self._changed:
            self._ended = self._ended or reason
            self._room.set()
            self._changed.notify_all()

    def _above_target(self, frame: Grabbed) -> bool:
        return self._pace is not None and not self._pace.admits(frame.pts, frame.epoch)

    # --- the policy ---

    def _make_ready(self) -> None:
        """Wait until there is room, or nobody will take anything any more."""
        self._room.wait()

    def _insert(self, frame: Grabbed) -> Counter[str]:
        self._frames.append(frame)
        return Counter()

    def _choose(self, keep: int) -> Counter[str]:  # noqa: ARG002 - for policies that drop
        """Drop what should not be taken any more."""
        return Counter()


class Newest(Intake):
    """Keep the newest frames. Once some had to go, only the very newest are worth taking: the others are late."""

    drops = True
    _crowded = False

    def _make_ready(self) -> None:
        """Never wait."""

    def _insert(self, frame: Grabbed) -> Counter[str]:
        dropped: Counter[str] = Counter()
        while len(self._frames) >= self._capacity:
            self._frames.popleft()
            self._crowded = True
            dropped[_LATE] += 1
        self._frames.append(frame)
        return dropped

    def _choose(self, keep: int) -> Counter[str]:
        dropped: Counter[str] = Counter()
        while self._crowded and len(self._frames) > keep:
            self._frames.popleft()
            dropped[_LATE] += 1
        self._crowded = False
        return dropped


class Every(Intake):
    """Keep each Nth frame, so that those that are left lie evenly; N follows the load.

    It grows by one each time that the mailbox is full. It shrinks by one, two, four … while the mailbox is not.
    """

    drops = True
    _nth = 1
    _count = 0  # frames since the last one that was kept
    _calm = 0  # frames since the mailbox was last full, or N has shrunk
    _less = 1  # by how much N shrinks next

    def _make_ready(self) -> None:
        """Never wait."""

    def _insert(self, frame: Grabbed) -> Counter[str]:
        self._count += 1
        self._calm += 1
        if self._count < self._nth:
            return Counter({_SKIPPED: 1})
        self._count = 0
        dropped: Counter[str] = Counter()
        if len(self._frames) >= self._capacity:
            self._frames.popleft()
            self._nth, self._calm, self._less = min(self._nth + 1, _THINNEST), 0, 1
            dropped[_LATE] += 1
        elif self._calm >= _CALM:
            self._nth, self._calm, self._less = max(1, self._nth - self._less), 0, 2 * self._less
        self._frames.append(frame)
        return dropped


OnDrop = Callable[[str, int], None]
POLICIES: Mapping[Drop, type[Intake]] = {"newest": Newest, "every": Every, "block": Intake}
