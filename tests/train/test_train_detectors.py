"""Detectors learn a few images by heart, and stream as any other model once they have."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import playthings
import pytest
import torch
import yaml
from torch import nn

from engines.build.base import silent
from engines.build.graph import load_body
from engines.decoders import DetectOptions
from engines.load import open_detector
from engines.manifest import Manifest, find, read
from engines.metrics.coco import mean_ap
from engines.networks.checkpoint import open_network
from engines.networks.yolox import Yolox
from engines.runtimes.base import RuntimeOptions
from engines.train.detection import Detection, SsdCriterion, YoloxCriterion, expect_little
from engines.train.errors import TrainingError
from engines.train.export import export
from engines.train.loop import WEIGHTS, fit
from engines.train.measure import detections, truth_of
from engines.train.plan import Plan
from engines.train.task import Subject
from engines.train.tasks import open_task
from engines.types import Detections
from engines.zoo import locate
from streamer.cli import main

FEW = 3  # images


STEPS = 120
RATES = {"yolox": 1e-2, "ssd": 4e-3}


def task_of(manifest: Manifest, steps: int) -> Detection:
    subject = Subject(manifest, "few", steps)
    scenes = playthings.Few(FEW)
    if manifest.architecture == "ssd":
        return Detection(subject, scenes, SsdCriterion(manifest))
    task = Detection(subject, scenes, YoloxCriterion(manifest))
    assert isinstance(task.model, Yolox)
    expect_little(task.model)
    return task


def hurried(task: Detection) -> Detection:
    """Let the statistics follow quickly, for there is little time."""
    for module in task.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return task


@dataclass(frozen=True)
class Learnt:
    folder: Path
    manifest: Manifest
    figures: dict[str, float]


@pytest.fixture(scope="module", params=["yolox", "ssd"])
def learnt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    """Learn three images by heart, and export what knows them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    manifest = {"yolox": playthings.yolox, "ssd": playthings.ssd}[request.param]()
    folder = tmp_path_factory.mktemp(request.param)
    plan = Plan(STEPS, batch=FEW, lr=RATES[request.param], warmup=10, ema=0.9, workers=0, precision="fp32")
    figures = fit(hurried(task_of(manifest, STEPS)), plan, folder)
    torch.set_num_threads(threads)
    assert figures is not None
    return Learnt(folder, export(manifest, folder), dict(figures))


def test_a_few_images_are_learnt(learnt: Learnt) -> None:
    assert learnt.figures["map50"] > 0.9


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_what_was_trained_is_served_as_torch_has_it(learnt: Learnt, runtime: str) -> None:
    scenes = playthings.Few(FEW).held_out()
    network = open_network(learnt.manifest, learnt.folder / WEIGHTS)
    wanted = detections(network, learnt.manifest, scenes)
    options = RuntimeOptions(precision="fp32", max_batch=2)
    weights = locate(learnt.manifest)
    assert weights.suffix == ".onnx"
    with closing(open_detector(learnt.manifest, weights, DetectOptions(0.02), [runtime], options)) as model:
        found = model([scene.image for scene in scenes])
    for got, want in zip(found, wanted, strict=True):
        sure, true = (each[each.confidence > 0.3] for each in (got, want))
        assert sure.class_id.tolist() == true.class_id.tolist()
        assert (
            np.abs(sure.confidence - true.confidence).max() < 5e-3
        )  # weights are rounded once more as they are folded
        assert np.abs(sure.xyxy - true.xyxy).max() < 0.1
    named = [Detections(s.boxes, _rows(learnt, s.classes), np.ones(len(s.boxes), np.float32)) for s in scenes]
    assert mean_ap(named, found).ap50 > 0.9


def test_its_body_is_stored_in_halves_and_served_in_floats(learnt: Learnt, tmp_path: Path) -> None:
    body = onnx.load(learnt.folder / "model.onnx")
    weights = {node.input[1] for node in body.graph.node if node.op_type == "Conv"}
    kernels = [each for each in body.graph.initializer if each.name.removesuffix("_half") in weights]
    assert len(kernels) == len(weights)
    assert {each.data_type for each in kernels} == {onnx.TensorProto.FLOAT16}
    served = load_body(learnt.manifest, learnt.folder / "model.onnx", tmp_path, silent)
    kept = {each.name: each for each in served.graph.initializer}
    read_by = [kept[node.input[1]] for node in served.graph.node if node.op_type == "Conv"]
    assert {each.data_type for each in read_by} == {onnx.TensorProto.FLOAT}
    assert not [each for each in kept.values() if each.data_type == onnx.TensorProto.FLOAT16]


def test_it_streams_by_the_path_of_its_manifest(learnt: Learnt, tmp_path: Path) -> None:
    import videos

    video = videos.write(tmp_path / "clip.mp4", videos.Clip(frames=2))
    nodes = {"found": {"kind": "detect", "model": str(learnt.folder / "model.yaml")}}
    pipeline = tmp_path / "p.yaml"
    pipeline.write_text(yaml.safe_dump({"nodes": nodes, "runtime": {"prefer": ["onnxruntime"]}}))
    assert main(["process", str(video), "--out", str(tmp_path / "out"), "--pipeline", str(pipeline)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "clip.jsonl").read_text().splitlines()]
    assert len(lines) == 2


def test_a_manifest_whose_weights_were_exchanged_is_refused(learnt: Learnt, tmp_path: Path) -> None:
    folder = shutil.copytree(learnt.folder, tmp_path / "copy")
    damaged = bytearray((folder / "model.onnx").read_bytes())
    damaged[-1] ^= 1
    (folder / "model.onnx").write_bytes(damaged)
    with pytest.raises(Exception, match="replace it"):
        locate(read(folder / "model.yaml"))


def test_another_name_for_a_class_is_refused() -> None:
    told = playthings.yolox().model_copy(update={"labels": ("brick", "cone")})
    with pytest.raises(TrainingError, match="no label 'ball'"):
        Detection(Subject(told, "few", 10), playthings.Few(1), YoloxCriterion(told))


def test_what_learns_at_one_size_is_measured_at_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.train.data.world.HELD_OUT", 2)
    task = open_task(Subject(find("yolox-pico"), "world", 10, size=(96, 64)))
    assert task.batch(0, 2).frames.shape == (2, 96, 64, 3)
    assert sum(part.item() for part in task.loss(task.batch(0, 2)).values()) > 0
    assert set(task.evaluate(task.model.eval())) == {"map50", "map"}


@pytest.mark.parametrize(
    ("name", "size", "fault"),
    [
        ("ssd-pico", (96, 64), "ssd-pico learns at the size that it is served at"),
        ("yolox-pico", (90, 64), "--size 90 64: give multiples of 32"),
        ("yolox-pico", (0, 64), "--size 0 64: give multiples of 32"),
    ],
)
def test_a_size_that_does_not_do_is_refused(name: str, size: tuple[int, int], fault: str) -> None:
    with pytest.raises(TrainingError, match=fault):
        open_task(Subject(find(name), "world", 10, size=size))


def test_nothing_is_exported_before_there_is_something(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"weights\.pt is not there yet"):
        export(playthings.yolox(), tmp_path)


def test_what_nobody_teaches_is_told() -> None:
    told = playthings.yolox().model_copy(update={"architecture": "perceptron"})
    with pytest.raises(TrainingError, match="'perceptron' cannot be trained here"):
        open_task(Subject(told, "world", 10))


def test_the_same_seed_makes_the_same_network_and_batch() -> None:
    told = playthings.yolox()
    first, again = task_of(told, 10), task_of(told, 10)
    pairs = zip(first.model.state_dict().values(), again.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(first.batch(3, 4).frames, again.batch(3, 4).frames)


def test_batches_hold_what_the_served_model_is_fed() -> None:
    batch = task_of(playthings.ssd(), 100).batch(0, 4)
    assert (batch.frames.dtype, tuple(batch.frames.shape)) == (torch.uint8, (4, *playthings.SIZE, 3))
    assert torch.equal(batch.frames[1], torch.from_numpy(playthings.scene(1).image))
    # Class 0 is background, so all are one further on.
    assert batch.truth.classes[1][batch.truth.there[1]].tolist() == (playthings.scene(1).classes + 1).tolist()
    assert (float(batch.calm), float(task_of(playthings.ssd(), 100).batch(90, 1).calm)) == (0, 1)


def test_the_truth_finds_itself_and_hidden_objects_count_neither_way() -> None:
    from engines.train.measure import box_figures

    scenes = [playthings.scene(seed) for seed in range(2)]
    scenes[0].hidden[0] = True
    found = [Detections(s.boxes, s.classes, np.ones(len(s.boxes), np.float32)) for s in scenes]
    assert box_figures(scenes, found, playthings.LABELS) == {"map50": 1.0, "map": 1.0}
    without = [found[0][~scenes[0].hidden], found[1]]
    assert box_figures(scenes, without, playthings.LABELS) == {"map50": 1.0, "map": 1.0}
    assert sum(each.crowd for each in truth_of(scenes, playthings.LABELS).annotations) == 1


def _rows(
    learnt: Learnt, classes: np.ndarray[tuple[int], np.dtype[np.int32]]
) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return classes + np.int32(learnt.manifest.labels[0] == "background")
