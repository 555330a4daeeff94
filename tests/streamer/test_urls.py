from __future__ import annotations

import pytest

from streamer.urls import redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://10.0.0.5/stream1", "rtsp://10.0.0.5/stream1"),
        ("rtsp://admin:hunter2@10.0.0.5/stream1", "rtsp://***@10.0.0.5/stream1"),
        ("redis://:hun/ter#2?@host:6379/0", "redis://***@host:6379/0"),
        ("rtsp://a:p@ss@host/x", "rtsp://***@host/x"),
        ("redis://host/0?password=hunter2&ssl=1", "redis://host/0?password=***&ssl=1"),
        ("http://host/video?fps=5&access_token=hunter2", "http://host/video?fps=5&access_token=***"),
        ("/data/me@home.mp4", "/data/me@home.mp4"),
    ],
)
def test_logins_and_secrets_are_hidden(url: str, shown: str) -> None:
    assert redact(url) == shown
