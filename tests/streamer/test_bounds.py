from __future__ import annotations

from streamer import config
from streamer.build import frame_memory

HD = 1920 * 1080


def settings(**camera: float) -> config.Pipeline:
    gate = config.Camera.model_validate({"url": "rtsp://gate", **camera})
    return config.Pipeline({"gate": gate}, {}, limits=config.Limits(live_frames=2, file_frames=16))


def waiting(camera: config.Pipeline, *, live: bool) -> int:
    return frame_memory(camera, {"gate": (1920, 1080)}, {"gate": live}).waiting


def test_what_waits_is_bounded_by_the_mailbox_and_the_frame_in_the_decoder() -> None:
    assert waiting(settings(), live=True) == 3 * HD * 1.5
    assert waiting(settings(), live=False) == 17 * HD * 1.5


def test_a_camera_of_high_priority_keeps_more_frames_and_that_is_counted() -> None:
    assert waiting(settings(priority=5), live=True) == 6 * HD * 1.5
    assert waiting(settings(priority=100), live=True) == 9 * HD * 1.5


def test_batches_inside_are_those_in_hand_and_those_in_front_of_the_publisher() -> None:
    assert frame_memory(settings(), {"gate": (1920, 1080)}, {"gate": True}).inside == 3 * 8 * HD * 3
