"""The baseline of `realtime.py`: a thread and a queue a camera, OpenCV reading, ONNX Runtime, one XADD a frame."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import psutil
import redis
from end_to_end import cpu_seconds
from plain import PlainDetector, RememberingDetector

Box = queue.Queue[tuple[float, Any]]


class PlainCameras:
    """Cameras made of one recording, each with a queue that keeps the two newest pictures."""

    def __init__(self, video: str, fps: float, count: int) -> None:
        self.grabbed = 0
        self.boxes: list[Box] = [queue.Queue(2) for _ in range(count)]
        self._video, self._fps = video, fps
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._grab, args=(box,)) for box in self.boxes]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _grab(self, box: Box) -> None:
        capture = cv2.VideoCapture(self._video, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        start, index = time.monotonic(), 0
        while not self._over.is_set():
            ok, image = capture.read()
            if not ok:
                capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                continue
            time.sleep(max(0.0, start + index / self._fps - time.monotonic()))
            index += 1
            self.grabbed += 1
            if box.full():
                with suppress(queue.Empty):  # it was taken just now
                    box.get_nowait()
            box.put((time.time(), image))


def plain(task: Any, settle: float) -> dict[str, Any]:
    """Run it for a while; return what `Figures` holds."""
    detect = (PlainDetector if task.engine else RememberingDetector)(task.model)
    client = redis.Redis.from_url(task.redis)
    cameras = PlainCameras(task.video, task.fps, task.cameras)
    work(cameras.boxes, detect, client, settle)
    before, cpu = cameras.grabbed, cpu_seconds()
    latencies = work(cameras.boxes, detect, client, task.seconds)
    figures = {
        "grabbed": cameras.grabbed - before,
        "published": len(latencies),
        "latency_ms": [float(p) * 1e3 for p in np.percentile(latencies, [50, 95, 99])],
        "cpu_ms": (cpu_seconds() - cpu) / len(latencies) * 1e3,
        "resident_mb": psutil.Process().memory_info().rss / 2**20,
    }
    cameras.close()
    return figures


def work(boxes: Sequence[Box], detect: PlainDetector, client: redis.Redis, seconds: float) -> list[float]:
    """Look at each camera in turn for so many seconds; return the latencies."""
    latencies = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        idle = True
        for box in boxes:
            with suppress(queue.Empty):
                at, image = box.get_nowait()
                client.xadd("plain", {"json": json.dumps({"items": detect(image)})}, maxlen=10_000)
                latencies.append(time.time() - at)
                idle = False
        if idle:
            time.sleep(0.001)
    return latencies
