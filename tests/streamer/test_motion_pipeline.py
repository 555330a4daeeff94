"""From a pipeline file to Redis: flow, tracks, lines, zones, clips and actions, and equal to a computation offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from actionnets import LABELS, logits_of, recogniser
from moving import texture
from networks import manifest
from worlds import Script

from engines.classical import open_classical
from engines.crops import Rect, cut_flow
from engines.motion import Pair
from engines.types import Detections, Float, Flow, Image
from engines.zoo import ignore as no_progress
from streamer import build, config
from streamer.build.openers import OPENERS, Opened
from streamer.client import Tuning, events
from streamer.errors import InputError
from streamer.pipeline import Limits, Pipeline
from streamer.sinks.memory import MemorySink
from streamer.types import Actions, Packet, Port, RawFrame, Windows
from streamer.wire import ActionEnded, ActionStarted, ZonesResult, decode

SIZE = (96, 128)
CLIP = (16, 24)


def source(pixels: Sequence[Image], camera: str = "gate", breaks: Sequence[int] = (), fps: float = 10) -> Script:
    def raw(index: int, image: Image) -> RawFrame:
        return RawFrame(index / fps, lambda: image, breaks=index in breaks)

    return Script(camera, [[raw(i, image) for i, image in enumerate(pixels)]])


def run(nodes: str, sources: Sequence[Script], publish: Sequence[config.Publish] = (), batch: int = 8) -> list[Packet]:
    settings = config.parse(f"nodes:\n{nodes}\nruntime: {{prefer: [onnxruntime], precision: fp32}}", "p.yaml", (), {})
    memory = MemorySink()
    with ExitStack() as stack:
        graph = stack.enter_context(build.open_graph(settings, "throughput", no_progress))
        outlet = build.Outlet(graph.facts, tuple(one.camera for one in sources), live=False)
        sinks = stack.enter_context(build.open_sinks(publish, outlet))
        Pipeline(sources, graph.stages, [*sinks, memory], Limits(batch=batch)).run()
    return memory.packets


# --- what happens in a scene ---


@dataclass
class FindBlue:
    """A detector of the one thing that is blue."""

    writes: Port[Detections]
    reads: tuple[Port[Any], ...] = ()

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        return [packet.put(self.writes, self._find(packet.frame.image)) for packet in packets]

    def _find(self, image: Image) -> Detections:
        rows, columns = np.nonzero((image[..., 2] > 200) & (image[..., 0] < 90))
        if not len(rows):
            return Detections.empty()
        box = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
        return Detections(np.array(box, np.float32), np.zeros(1, np.int32), np.full(1, 0.9, np.float32))

    def forget(self, camera: str) -> None: ...
    def close(self) -> None: ...


def passer_by(frames: int = 60) -> list[Image]:
    """Something blue comes in, goes right by 3 pixels a frame, and is gone after 24 frames."""
    ground = np.minimum(texture(SIZE, 3), 190)
    thing = texture((32, 24), 5)
    thing[..., 0], thing[..., 2] = thing[..., 0] // 3, 255
    pictures = [ground.copy() for _ in range(frames)]
    for i, image in enumerate(pictures[:24]):
        image[40:72, 10 + 3 * i : 34 + 3 * i] = thing
    return pictures


NODES = """
  found: {{kind: detect, model: {bright}}}
  tracks: {{kind: track, detections: found}}
  doors: {{kind: lines, tracks: tracks, lines: {{door: [[0.5, 1], [0.5, 0]]}}}}
  places: {{kind: zones, tracks: tracks, zones: {{yard: [[0.6, 0], [1, 0], [1, 1], [0.6, 1]]}}}}
  flow: {{kind: flow, model: dis, field: true}}
  clips: {{kind: clips, around: tracks, flow: flow, stride: 2, gap: 3}}
  moves: {{kind: recognise, model: {moves}, clips: clips, top: 2, start: 0.35, stop: 0.3, smooth: null}}
"""


@pytest.fixture
def blue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The nodes of a pipeline, whose detector sees what is blue."""

    def open_blue(name: str, *_: object) -> Opened:
        return Opened(FindBlue(Port(name, Detections)), "NumPy")

    monkeypatch.setitem(OPENERS, config.Detect, open_blue)  # type: ignore[misc]  # its keys are classes
    moves = recogniser(tmp_path, "moves", CLIP, 6, 10, "flow")
    return NODES.format(bright=manifest(tmp_path), moves=moves)


def test_all_that_happens_is_told_with_its_result_and_by_itself(blue: str, redis_url: str, tmp_path: Path) -> None:
    redis = config.Redis(kind="redis", url=redis_url)
    lines = config.JsonLines(kind="jsonl", path=tmp_path / "gate.jsonl")
    video = config.Video(kind="video", path=tmp_path / "gate.mp4")
    packets = run(blue, [source(passer_by())], [redis, lines, video])
    messages = [decode(line) for line in (tmp_path / "gate.jsonl").read_bytes().splitlines()]
    inside = [e for m in messages for result in m.results.values() for e in getattr(result, "events", ())]
    got = [one.event for one in islice(events(redis_url, group="all", tuning=Tuning()), len(inside))]
    assert got == inside
    assert [event.kind for event in got if event.kind != "action_started"] == [
        "line_crossed",
        "zone_entered",
        "action_ended",
        "zone_left",
    ]
    started = next(event for event in got if isinstance(event, ActionStarted))
    ended = next(event for event in got if isinstance(event, ActionEnded))
    assert (started.label, started.track_id, ended.label, ended.track_id) == ("right", 1, "right", 1)
    assert started.score > 0.35
    assert ended.pts <= 2.3 + 1e-6  # when he was last seen
    places = messages[-1].results["places"]
    assert isinstance(places, ZonesResult)
    assert [(zone.entries, zone.exits, zone.occupants) for zone in places.items] == [(1, 1, ())]
    assert {"found", "tracks", "doors", "places", "flow"} <= set(messages[20].results)
    assert "flow" not in messages[0].results
    assert (tmp_path / "gate.mp4").stat().st_size > 10_000
    assert len(packets) == len(messages) == 60


# --- streaming equals offline ---

SCENE = """
  flow: {{kind: flow, model: dis, every: {every}}}
  clips: {{kind: clips, flow: flow, stride: {stride}, fps: {fps}, gap: 100}}
  look: {{kind: recognise, model: {look}, clips: clips, smooth: null, top: 4}}
  move: {{kind: recognise, model: {move}, clips: clips, smooth: null, top: 4}}
"""
LENGTH = 6


def softmax(logits: np.ndarray) -> Float:
    shares = np.exp(logits - logits.max())
    return np.asarray(shares / shares.sum(), np.float32)


def drifting(count: int, seed: int) -> list[Image]:
    """A texture that wanders, and grows darker."""
    wide, rng = texture((SIZE[0] + 120, SIZE[1] + 120), seed), np.random.default_rng(seed)
    steps = np.cumsum(rng.integers(-3, 4, (count, 2)), axis=0) + 60
    return [
        (wide[y : y + SIZE[0], x : x + SIZE[1]] * (1 - 0.012 * i)).astype(np.uint8)
        for i, (x, y) in enumerate(np.clip(steps, 0, 119).tolist())
    ]


def offline(pixels: Sequence[Image], every: int, stride: int, fps: float) -> dict[int, tuple[Image, Float]]:
    """Clips and their flow by the number of their last frame, with nothing but slices: of frames at 10 a second."""
    model = open_classical("dis", 8)
    chosen = pixels[::every]
    placed = [model.place(image) for image in chosen]
    flows = model([Pair(*pair, every / 10) for pair in pairwise(placed)])
    rect = Rect(0, 0, SIZE[1], SIZE[0])
    moving = np.stack([cut_flow(flow, rect, SIZE, SIZE) for flow in flows]) / np.float32(every / 10 * fps)
    shown = np.stack(chosen[1:])  # the first has no flow
    ends = range(LENGTH, len(shown) + 1, stride)
    return {every * end: (shown[end - LENGTH : end], moving[end - LENGTH : end]) for end in ends}


def scores(packets: Sequence[Packet], node: str, camera: str) -> dict[int, Float]:
    values = [(one.frame.seq, one.get(Port(node, Actions))) for one in packets if one.frame.camera == camera]
    return {seq: value.items[0].scores.probs for seq, value in values if value is not None and value.items}


@pytest.fixture
def models(tmp_path: Path) -> Mapping[str, Path]:
    return {
        "look": recogniser(tmp_path, "look", SIZE, LENGTH, 10),
        "move": recogniser(tmp_path, "move", SIZE, LENGTH, 10, "flow"),
    }


@pytest.mark.parametrize(("every", "stride", "batch"), [(1, 3, 8), (1, 1, 5), (2, 3, 8), (3, 2, 1)])
def test_two_cameras_in_one_batch_give_what_each_gives_offline(
    models: Mapping[str, Path], every: int, stride: int, batch: int
) -> None:
    videos = {"gate": drifting(30, 1), "yard": drifting(26, 2)}
    nodes = SCENE.format(every=every, stride=stride, fps=10 / every, **models)
    packets = run(nodes, [source(pixels, name) for name, pixels in videos.items()], batch=batch)
    for camera, pixels in videos.items():
        expected = offline(pixels, every, stride, 10 / every)
        looks, moves = scores(packets, "look", camera), scores(packets, "move", camera)
        assert looks.keys() == moves.keys() == expected.keys()
        for end, (clip, flow) in expected.items():
            np.testing.assert_allclose(looks[end], softmax(logits_of(clip, None)), atol=2e-5)
            np.testing.assert_allclose(moves[end], softmax(logits_of(clip, flow)), atol=1e-4)


def test_after_a_break_it_is_as_if_the_video_began_there(models: Mapping[str, Path]) -> None:
    pixels = drifting(30, 1)
    packets = run(SCENE.format(every=1, stride=2, fps=10, **models), [source(pixels, breaks=[11])])
    expected = offline(pixels[:11], 1, 2, 10)
    expected |= {11 + end: clip for end, clip in offline(pixels[11:], 1, 2, 10).items()}
    for node, index in (("look", 0), ("move", 1)):
        got = scores(packets, node, "gate")
        assert got.keys() == expected.keys()
        for end, found in got.items():
            clip, flow = expected[end]
            np.testing.assert_allclose(found, softmax(logits_of(clip, flow if index else None)), atol=1e-4)


def test_dropped_frames_are_as_if_the_next_one_had_come_twice(models: Mapping[str, Path]) -> None:
    pixels = drifting(24, 1)
    kept = [i for i in range(24) if i not in (7, 8, 15)]
    camera = Script("gate", [[RawFrame(i / 10, lambda image=pixels[i]: image) for i in kept]])  # type: ignore[misc]  # a default is no argument
    packets = run(SCENE.format(every=1, stride=1, fps=10, **models), [camera])
    filled = [min(k for k in kept if k >= i) for i in range(24)]
    got = [one for packet in packets for one in (packet.get(Port("clips", Windows)) or Windows()).items]
    ends = [kept[one.last_seq] for one in got]
    assert ends == [k for k in kept if k >= LENGTH]
    for one, end in zip(got, ends, strict=True):
        np.testing.assert_array_equal(one.clip.rgb, np.stack([pixels[i] for i in filled[end - LENGTH + 1 : end + 1]]))


@pytest.mark.parametrize("fault", ["shifted", "swapped", "reversed", "uv"])
def test_what_is_compared_above_does_tell_faults_apart(fault: str) -> None:
    for clip, flow in offline(drifting(30, 1), 1, 3, 10).values():
        order = {"shifted": [1, 2, 3, 4, 5, 0], "swapped": [0, 1, 2, 3, 5, 4], "reversed": [5, 4, 3, 2, 1, 0]}
        rows = order.get(fault, [0, 1, 2, 3, 4, 5])
        wrong = flow[..., ::-1] if fault == "uv" else flow[rows]
        assert np.abs(softmax(logits_of(clip, flow)) - softmax(logits_of(clip, wrong))).max() > 1e-3
        if fault != "uv":
            assert np.abs(softmax(logits_of(clip, None)) - softmax(logits_of(clip[rows], None))).max() > 1e-3


def test_a_model_by_itself_makes_a_flow_node() -> None:
    assert config.kind_for("flow") == "flow"
    assert config.kind_for("recognise") is None
    assert LABELS[2] == "right"


def test_an_optional_recogniser_is_left_out_and_its_clips_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    look = recogniser(tmp_path, "look", SIZE, LENGTH, 10)
    (tmp_path / "look.onnx").unlink()
    nodes = "  clips: {kind: clips}\n  look: {kind: recognise, model: " + str(look) + ", clips: clips"
    packets = run(nodes + ", optional: true}", [source(drifting(12, 1))])
    assert "node look" in caplog.text
    assert any(packet.get(Port("clips", Windows)) for packet in packets)
    with pytest.raises(InputError, match=r"node look: .*look\.onnx"):
        run(nodes + "}", [source(drifting(12, 1))])


def test_flow_is_published_in_pixels_of_the_source() -> None:
    pixels = [texture((SIZE[0], SIZE[1] + 40), 4)[:, 4 * i : 4 * i + SIZE[1]] for i in range(6)]
    packets = run("  flow: {kind: flow, model: dis}", [source([np.ascontiguousarray(one) for one in pixels])])
    found = [packet.get(Port("flow", Flow)) for packet in packets]
    assert found[0] is None
    means = [np.median(flow.uv, axis=(0, 1)) for flow in found if flow is not None]
    np.testing.assert_allclose(means, [[-4, 0]] * 5, atol=0.3)
