"""The observer that turns events into `Stats`."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence

from streamer import events
from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.monitor.tallies import CameraCopy, CameraTally, GraphTally, SinkTally
from streamer.stats import Histograms, LatencyTarget, Stats


class Monitor:
    """An observer that turns events into `Stats`. Thread-safe; its lock is never held for longer than a copy takes.

    A camera is there from its first `CameraState` until `CameraRemoved`; what is heard of it afterwards is left out.
    End-to-end latency is the server's answer minus `captured_at`. Where the clocks of a camera and of this machine
    disagree that may be negative, and counts as 0.
    """

    def __init__(
        self, labels: Mapping[str, Sequence[str]], clock: Clock = SYSTEM_CLOCK, target: float | None = None
    ) -> None:
        """*labels* are the class names of each node; *target* is the latency to be held, in seconds."""
        self._labels, self._clock = labels, clock
        self._cameras: dict[str, CameraTally] = {}
        self._gone = CameraTally()  # takes what is heard of cameras that are no more; nobody reads it
        self._sinks: defaultdict[str, SinkTally] = defaultdict(SinkTally)
        self._graph = GraphTally(None if target is None else LatencyTarget(round(target * 1e3, 3)))
        self._lock = threading.Lock()

    def __call__(self, event: events.Event) -> None:
        now = self._now()
        with self._lock:
            self._take(event, now)

    def stats(self) -> Stats:
        """Return all that events tell; queues, threads and the machine are for others to add."""
        now = self._now()
        with self._lock:
            names = tuple(self._cameras)
            sinks = {name: sink.copy(now) for name, sink in self._sinks.items()}
            graph = self._graph.copy(now)
        cameras = {name: copy for name in names if (copy := self._copy(name, now)) is not None}
        return Stats(
            at=self._clock.time(),
            cameras={name: copy.stats(self._labels) for name, copy in cameras.items()},
            sinks={name: stats() for name, stats in sinks.items()},
            queues={f"camera {name}": count for name, count in graph.waiting.items() if name in cameras},
            batch_size=graph.batch_size,
            latency=graph.latency,
            nodes=graph.nodes,
            histograms=Histograms(
                {name: copy.latency for name, copy in cameras.items()},
                graph.stages,
                {(name, sink): times for name, copy in cameras.items() for sink, times in copy.end_to_end.items()},
                graph.batch,
            ),
        )

    def _copy(self, name: str, now: float) -> CameraCopy | None:
        """Copy one camera at a time: between two of them the pipeline's threads get their turn."""
        with self._lock:
            camera = self._cameras.get(name)
            return None if camera is None else camera.copy(now)

    def _take(self, event: events.Event, now: float) -> None:
        match event:
            case events.FrameGrabbed(name):
                self._camera(name).grab(now)
            case events.PacketPublished(packet):
                self._graph.publish(packet)
                self._camera(packet.frame.camera).publish(packet, now)
            case events.ResultsWritten(name, results):
                self._written(name, results, now)
            case events.FrameDropped(name, reason, count):
                self._camera(name).dropped[reason] += count
            case events.FrameLost(name, _, count):
                self._camera(name).lost += count
            case events.CameraState(name, state, error):
                if state != "ended" or name in self._cameras:  # the thread of a removed camera ends after it
                    self._cameras.setdefault(name, CameraTally()).enter(state, error)
            case events.CameraRemoved(name):
                self._cameras.pop(name, None)
            case _:
                self._take_of_graph(event, now)

    def _take_of_graph(self, event: events.Event, now: float) -> None:
        match event:
            case events.BatchTaken(size, waiting):
                self._graph.take(size, waiting, now)
            case events.ResultsDropped(name, count, _):
                self._sinks[name].dropped += count
            case events.SinkState(name, error):
                self._sinks[name].error = error
            case events.WorkShed(node, _, count):
                self._graph.shed[node] += count
            case events.LatencyHeld(held, detail):
                self._graph.hold(held, detail)

    def _written(self, name: str, results: Sequence[events.Written], now: float) -> None:
        sink = self._sinks[name]
        for result in results:
            seconds = max(0.0, result.at - result.captured_at)
            sink.acknowledge(seconds, now)
            self._camera(result.camera).acknowledge(name, seconds, now)

    def _camera(self, name: str) -> CameraTally:
        return self._cameras.get(name, self._gone)

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9
