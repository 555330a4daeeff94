"""The cameras of a running pipeline: each with its grabber, its intake and its place in the numbering."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from streamer.backoff import Backoff
from streamer.batcher import Batcher
from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.crew import Crew
from streamer.errors import InputError, SourceError
from streamer.events import CameraRemoved, CameraState, Event, FrameDropped, Observer
from streamer.grabber import Grabber, Timeline
from streamer.intake import POLICIES, Admission, Intake
from streamer.sources.base import Source

_MOST_WAITING = 8  # frames of a live camera, whatever its priority
_PATIENCE = 0.5  # seconds that an observer may take over a state before it is no longer waited for
_REMEMBERED = 1024  # cameras that are gone, of which it is known where they stood


@dataclass(frozen=True, slots=True)
class Camera:
    """A source, and how its frames get in."""

    source: Source
    admission: Admission
    backoff: Backoff
    first_seq: int = 0  # where a run goes on


@dataclass(frozen=True, slots=True)
class Buffers:
    """The frames that may wait of each camera."""

    live: int
    recorded: int

    def of(self, priority: float, *, live: bool) -> int:
        """Return the frames that may wait of one camera: what gets more of them must have them there to be taken."""
        return max(self.live, min(math.ceil(priority), _MOST_WAITING)) if live else self.recorded


class _Voice:
    """What a grabber tells of its camera; once the grabber was replaced, no states any more, only of frames."""

    def __init__(self, observer: Observer) -> None:
        self._observer, self.silenced = observer, False
        self._lock = threading.RLock()

    def __call__(self, event: Event) -> None:
        if not isinstance(event, CameraState):
            self._observer(event)
            return
        with self._lock:
            if not self.silenced:
                self._observer(event)

    def silence(self) -> None:
        """Wait a moment for a state that is being told: what follows is to come after it."""
        told = self._lock.acquire(timeout=_PATIENCE)  # no longer: the observer may be waiting for the fleet
        self.silenced = True
        if told:
            self._lock.release()


@dataclass(slots=True)
class _Post:
    """What stands for a camera while it is in the pipeline: at work, or paused."""

    camera: Camera
    intake: Intake
    voice: _Voice
    stop: threading.Event = field(default_factory=threading.Event)


class Fleet:
    """Cameras that come, go, pause and are re-aimed while the batcher serves them. Thread-safe.

    Changes come one after the other, and are told while the next one waits; what only reads waits for nobody.
    """

    def __init__(
        self,
        crew: Crew,
        batcher: Batcher,
        changed: threading.Condition,
        buffers: Buffers,
        observer: Observer,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.failures: dict[str, SourceError] = {}  # of the recorded sources that are there
        self._crew, self._batcher, self._changed, self._buffers = crew, batcher, changed, buffers
        self._observer, self._clock = observer, clock
        self._posts: dict[str, _Post] = {}
        self._timelines: dict[str, Timeline] = {}  # also of removed cameras: seq and times go on if they come back
        self._lock = threading.RLock()
        self._started = self._ended = False

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(self._posts.copy())

    def depths(self) -> Mapping[str, int]:
        """Return how many frames of each camera wait."""
        return {name: len(post.intake) for name, post in self._posts.copy().items()}

    def ages(self, name: str) -> bool:
        """Tell whether frames of a camera wait for however long it takes: then their age says nothing of the graph."""
        post = self._posts.get(name)
        return post is not None and not post.intake.drops

    def start(self) -> None:
        """Let the grabbers begin; those of cameras that come later begin at once."""
        with self._lock:
            self._started = True
            for name in self._posts:
                self._begin(name)

    def put(self, camera: Camera, reason: str = "removed") -> None:
        """Add a camera, or put it in place of the one of its name, whose waiting frames are dropped for *reason*.

        Raise InputError when the end has come.
        """
        name = camera.source.camera
        with self._lock:
            self._check_open()
            self._relieve(name, reason)
            self.failures.pop(name, None)
            self._posts[name] = self._post(camera)
            self._batcher.add(name, self._posts[name].intake)
            if self._started:
                self._begin(name)

    def remove(self, name: str) -> None:
        """Take a camera out. Raise InputError when there is none of that name."""
        with self._lock:
            self._find(name)
            self._relieve(name, "removed")
            self.failures.pop(name, None)
            del self._posts[name]
            self._batcher.remove(name)
            self._let_go_of_old()
            self._observer(CameraRemoved(name))  # inside: one that is added now must not be taken for it

    def pause(self, name: str) -> None:
        """Close the connection to a camera until it is resumed. Raise InputError as `remove`."""
        self._set_paused(name, paused=True)

    def resume(self, name: str) -> None:
        """Connect again to a camera that was paused. Raise InputError as `remove`."""
        self._set_paused(name, paused=False)

    def close(self) -> None:
        """Let no camera come, and every grabber end; what waits can still be taken."""
        with self._lock:
            self._ended = True
            for post in self._posts.values():
                post.stop.set()
                post.intake.close()  # a grabber that waits for its camera cannot do it
        self._batcher.close()

    def discard(self) -> None:
        """Drop what waits."""
        with self._lock:
            for post in self._posts.values():
                post.intake.discard("stopped")

    def _set_paused(self, name: str, *, paused: bool) -> None:
        with self._lock:
            self._check_open()
            camera = self._find(name).camera
            if camera.admission.paused is not paused:
                self.put(replace(camera, admission=replace(camera.admission, paused=paused)), "paused")

    def _post(self, camera: Camera) -> _Post:
        name, live = camera.source.camera, camera.source.live
        policy = POLICIES[camera.admission.drop or ("newest" if live else "block")]
        intake = policy(
            self._buffers.of(camera.admission.priority, live=live),
            camera.admission,
            self._changed,
            lambda reason, count: self._observer(FrameDropped(name, reason, count)),
        )
        return _Post(camera, intake, _Voice(self._observer))

    def _begin(self, name: str) -> None:
        post = self._posts[name]
        if post.camera.admission.paused:
            self._observer(CameraState(name, "paused"))
            return
        grabber = Grabber(
            post.camera.source, post.intake, post.stop, self._timeline(post.camera), post.camera.backoff, post.voice
        )
        self._crew.start(f"grab {name}", lambda: self._grab(name, post, grabber))

    def _timeline(self, camera: Camera) -> Timeline:
        """Go on where the camera of that name stood."""
        name = camera.source.camera
        timeline = self._timelines.get(name)
        if timeline is None:
            timeline = self._timelines[name] = Timeline(self._clock, camera.first_seq)
        timeline.interrupt()
        return timeline

    def _let_go_of_old(self) -> None:
        gone = [name for name in self._timelines if name not in self._posts]
        for name in gone[:-_REMEMBERED]:
            del self._timelines[name]

    def _grab(self, name: str, post: _Post, grabber: Grabber) -> None:
        try:
            grabber.run()
        except SourceError as error:
            if not post.voice.silenced:
                self.failures[name] = error

    def _relieve(self, name: str, reason: str) -> None:
        """End the work of a camera's grabber. It may notice later: what it then says and brings counts for nothing."""
        post = self._posts.get(name)
        if post is None:
            return
        post.voice.silence()
        post.stop.set()
        post.intake.discard(reason)

    def _find(self, name: str) -> _Post:
        if name not in self._posts:
            there = ", ".join(self._posts) or "none"
            raise InputError(f"there is no camera {name!r} in the pipeline; there are: {there}")
        return self._posts[name]

    def _check_open(self) -> None:
        if self._ended:
            raise InputError("the pipeline has ended, so its cameras cannot be changed; start it again")
