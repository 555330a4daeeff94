"""The cameras of the soak test do what it counts on."""

from __future__ import annotations

import time
from collections.abc import Sequence

import flappy
import pytest
import rtsp
import vigil

from streamer.sources import Source, SourceOptions, open_source

pytestmark = pytest.mark.skipif(rtsp.missing() is not None, reason=str(rtsp.missing()))


def test_cameras_die_in_turn_and_come_back() -> None:
    with flappy.cameras(2, every=4) as urls:

        def make(witness: vigil.Witness) -> Sequence[Source]:
            options = SourceOptions(open_timeout=5, read_timeout=4)
            return [open_source(str(index), url, options, witness) for index, url in enumerate(urls)]

        with vigil.over(make) as watch:
            for camera in ("0", "1"):
                watch.wait_for_result(camera, count=5)
                watch.wait_for_trouble(camera, since=0.0)
                watch.wait_for_result(camera, since=time.monotonic(), count=10)
