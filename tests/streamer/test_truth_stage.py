"""The node that knows what is truly there, and clips of the truth that are those of the pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from moving import packet

from engines.recognition import ClipSpec
from engines.types import Detections, Flow
from engines.world import CLASSES, CLEAR, World
from engines.world.truth import Cut, clips, detections
from streamer.cli import main
from streamer.stages.clips import ClipOptions, ClipPorts, Clips
from streamer.stages.truth import Truth
from streamer.types import Packet, Port, Window, Windows
from streamer.wire import DetectionsResult, decode

SIZE = (320, 192)
TRUTH, FLOW = Port("truth", Detections), Port("flow", Flow)
WINDOWS = Port("clips", Windows)
FPS = 15.0


def told(one: Packet, world: World) -> Detections:
    (done,) = Truth({"gate": world}, TRUTH).process([one])
    found = done.get(TRUTH)
    assert found is not None
    return found


def test_a_frame_gets_the_truth_of_its_time() -> None:
    world = World(5, SIZE)
    found, truth = told(packet(world.render(7.2), 0, pts=7.2), world), detections(world.at(7.2))
    assert (found.xyxy == truth.xyxy).all()
    assert (found.class_id == truth.class_id).all()
    assert found.track_id is not None
    assert found.track_id.tolist() == world.at(7.2).track_id.tolist()
    assert found.masks is not None
    assert len(found.masks) == len(found)


def test_boxes_follow_frames_that_were_scaled() -> None:
    world = World(5, SIZE)
    half = told(packet(np.zeros((96, 160, 3), np.uint8), 0, pts=7.2), world)
    np.testing.assert_allclose(half.xyxy, world.at(7.2).xyxy / 2)


def test_other_cameras_pass_without_a_value() -> None:
    stage = Truth({"gate": World(5, SIZE)}, TRUTH)
    yard = packet(np.zeros((96, 160, 3), np.uint8), 0, camera="yard")
    (done,) = stage.process([yard])
    assert done.get(TRUTH) is None
    stage.forget("gate")
    stage.close()
    assert stage.reads == ()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_true_clips_are_those_that_the_pipeline_cuts(seed: int) -> None:
    """So what is trained on them has seen what it will be served."""
    world, end = World(seed, SIZE, conditions=CLEAR), 20.0  # noise differs where times do by a rounding error
    spec = ClipSpec(8, FPS, (48, 48), frozenset({"rgb", "flow"}))
    ours = {each.track_id: each.clip for each in clips(world, end, spec, Cut(least=0))}
    served = {window.track_id: window.clip for window in cut(world, end, spec)}
    assert len(ours) > 2
    assert set(ours) <= set(served)
    for track, clip in ours.items():
        other = served[track]
        assert clip.flow is not None
        assert other.flow is not None
        np.testing.assert_allclose(clip.rgb, other.rgb, atol=1)
        np.testing.assert_allclose(clip.flow, other.flow, atol=1e-3)


def cut(world: World, end: float, spec: ClipSpec) -> list[Window]:
    """Send the frames that a clip is made of through the nodes of a pipeline."""
    truth = Truth({"gate": world}, TRUTH)
    options = ClipOptions(spec.length, spec.length, spec.fps, spec.size)
    stage = Clips(ClipPorts(TRUTH, FLOW), WINDOWS, options)
    windows: list[Window] = []
    for index in range(spec.length):
        t = end - (spec.length - 1 - index) / spec.fps
        flow = Flow(world.flow(t - 1 / spec.fps, t).uv, 1 / spec.fps)
        shown = replace(packet(world.render(t), index, pts=t)).put(FLOW, flow)
        (done,) = stage.process(truth.process([shown]))
        windows += (done.get(WINDOWS) or Windows()).items
    return windows


def test_truth_is_a_node_of_a_pipeline_file(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    text = f"""
cameras: {{city: {{url: "synthetic://city?objects=5&seed=7&frames=6&size=320x192"}}}}
nodes:
  truth: {{kind: truth, masks: rle}}
  tracks: {{kind: track, detections: truth}}
publish: [{{kind: jsonl, path: {out}}}]
"""
    (tmp_path / "p.yaml").write_text(text)
    assert main(["run", str(tmp_path / "p.yaml")]) == 0
    messages = [decode(line) for line in out.read_bytes().splitlines()]
    world = World(7, (320, 192), 5)
    for message in messages:
        truth = message.results["truth"]
        assert isinstance(truth, DetectionsResult)
        items = truth.items
        assert [item.track_id for item in items] == world.at(message.pts).track_id.tolist()
        assert {item.label for item in items} <= set(CLASSES)
        assert all(item.mask for item in items)


def test_a_pipeline_without_a_world_has_no_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text("cameras: {a: {url: 'synthetic://?frames=3'}}\nnodes:\n  t: {kind: truth}\n")
    assert main(["run", str(tmp_path / "p.yaml")]) == 2
    assert "no camera shows a world whose truth is known" in capsys.readouterr().err
