"""R-CNNs and RetinaNets learn a few images by heart; what they learnt is served as well without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import painted
import pytest
import torch
from scratch import scratch

from engines.boxes import iou
from engines.build.base import Material, Operators, Recipe
from engines.build.graph import material
from engines.build.same import objects_apart
from engines.decoders import DetectOptions
from engines.load import as_detector
from engines.masks import encode_masks, rle_iou
from engines.networks.checkpoint import open_network, read_state_dict
from engines.networks.served import serve
from engines.runtimes import open_runtime
from engines.runtimes.base import RuntimeOptions
from engines.train import rcnn, retinanet
from engines.train.detection import Detection
from engines.train.loop import WEIGHTS, fit
from engines.train.plan import Plan
from engines.train.rcnn import RcnnCriterion, Segmentation
from engines.train.retinanet import RetinaNetCriterion
from engines.train.task import Subject
from engines.train.tasks import open_task
from engines.types import Array
from engines.world import CLASSES

STEPS = 50


def plan(steps: int) -> Plan:
    return Plan(steps, batch=3, lr=2e-3, warmup=20, ema=0.9, workers=0, log_every=steps, evaluate_every=steps)


def segmentation() -> Segmentation:
    told = painted.manifest("mask-rcnn")
    task = Segmentation(Subject(told, "", STEPS), painted.Scenes(), RcnnCriterion(told))
    rcnn.begin(task.model)
    return task


@dataclass(frozen=True)
class Learnt:
    figures: Mapping[str, float]
    weights: Path


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learnt]:
    """A Mask R-CNN that has seen three images, fifty times."""
    torch.set_num_threads(1)
    with scratch(tmp_path_factory, "mask-rcnn") as folder:
        figures = fit(segmentation(), plan(STEPS), folder)
        assert figures is not None
        yield Learnt(figures, folder / WEIGHTS)


def test_a_mask_rcnn_learns_a_few_images_by_heart(learnt: Learnt) -> None:
    assert learnt.figures["mask_map50"] > 0.8
    assert learnt.figures["map50"] > 0.8


def test_five_parts_of_the_loss_are_the_same_every_time() -> None:
    losses = []
    for task in (segmentation(), segmentation()):
        torch.manual_seed(5)
        losses.append({name: float(part.detach()) for name, part in task.loss(task.batch(1, 3)).items()})
    assert losses[0] == losses[1]
    assert losses[0].keys() == {"objectness", "proposal", "class", "box", "mask"}


def test_a_training_that_goes_on_learns_the_same(tmp_path: Path) -> None:
    """Which anchors and regions are looked at is chance, but the chance of a step."""
    short = plan(4)
    fit(segmentation(), short, tmp_path / "whole")
    assert fit(segmentation(), short, tmp_path / "halves", pause=lambda step: step == 2) is None
    fit(segmentation(), short, tmp_path / "halves")
    one, other = (read_state_dict(tmp_path / name / WEIGHTS) for name in ("whole", "halves"))
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("architecture", ["faster-rcnn", "mask-rcnn", "retinanet"])
def test_the_table_has_them(architecture: str) -> None:
    labels = {"labels": ("background", *CLASSES)}
    task = open_task(Subject(painted.manifest(architecture).model_copy(update=labels), "world", 1))
    assert task.batch(0, 1).frames.shape == (1, *painted.SIZE, 3)


def test_every_weight_learns() -> None:
    task = segmentation()
    torch.stack(list(task.loss(task.batch(0, 3)).values())).sum().backward()  # type: ignore[no-untyped-call]  # torch's
    assert [name for name, weight in task.model.named_parameters() if weight.grad is None] == []
    assert all(bool(weight.grad.isfinite().all()) for weight in task.model.parameters() if weight.grad is not None)


def test_images_without_objects_teach_the_background() -> None:
    task = segmentation()
    batch = task.batch(0, 2)
    truth = replace(batch.truth, there=torch.zeros_like(batch.truth.there))
    losses = task.loss(replace(batch, truth=truth))
    assert {name for name, part in losses.items() if float(part.detach()) == 0} == {"proposal", "box", "mask"}
    assert all(bool(part.isfinite()) for part in losses.values())


def test_a_faster_rcnn_has_four_parts_and_learns(tmp_path: Path) -> None:
    told = painted.manifest("faster-rcnn")
    task = Detection(Subject(told, "", STEPS), painted.Scenes(), RcnnCriterion(told))
    rcnn.begin(task.model)
    assert task.loss(task.batch(0, 3)).keys() == {"objectness", "proposal", "class", "box"}
    figures = fit(task, plan(30), tmp_path)
    assert figures is not None
    assert figures["map50"] > 0.8


def test_a_retinanet_learns(tmp_path: Path) -> None:
    told = painted.manifest("retinanet")
    task = Detection(Subject(told, "", 100), painted.Scenes(), RetinaNetCriterion(told))
    retinanet.begin(task.model)
    figures = fit(task, plan(100), tmp_path)
    assert figures is not None
    assert figures["map50"] > 0.8


# --- what is served ---


@pytest.fixture(scope="module")
def bench(learnt: Learnt, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Material]:
    with scratch(tmp_path_factory, "graphs") as folder:
        yield material(painted.manifest("mask-rcnn"), learnt.weights, folder)


@pytest.fixture(scope="module")
def wanted(bench: Material) -> list[Array]:
    with torch.inference_mode():
        found = serve(open_network(bench.manifest, bench.weights), bench.manifest, torch.float32)(frames())
    return listed({name: value.numpy() for name, value in found.items()})


def frames() -> torch.Tensor:
    return torch.from_numpy(np.stack([scene.image for scene in painted.Scenes().held_out()]))


def listed(outputs: Mapping[str, Array]) -> list[Array]:
    return [outputs[name].copy() for name in ("boxes", "scores", "classes", "masks")]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("operators", ["portable", "native"])
def test_what_it_learnt_is_the_same_in_every_runtime(
    bench: Material, wanted: Sequence[Array], operators: Operators, runtime: str
) -> None:
    opened = open_runtime(runtime, bench.graph(Recipe(operators=operators)), RuntimeOptions("fp32", max_batch=3))
    got = listed(opened.infer({"frames": frames().numpy()}))
    opened.close()
    assert objects_apart(got, wanted) == 0
    real = wanted[1] > 0.5
    assert real.sum() >= 12
    for one, other in zip(got, wanted, strict=True):
        assert np.abs(one[real] - other[real]).max() <= 1e-3 * max(np.abs(other[real]).max(), 1)


def test_what_is_served_finds_and_paints_what_was_learnt(bench: Material) -> None:
    runtime = open_runtime("onnxruntime", bench.graph(Recipe(operators="native")), RuntimeOptions("fp32"))
    scenes = painted.Scenes().held_out()
    for scene, found in zip(
        scenes, as_detector(bench.manifest, runtime, DetectOptions(0.5))([s.image for s in scenes]), strict=True
    ):
        over = iou(scene.boxes, found.xyxy)
        assert (over.max(1) > 0.6).all()
        assert (found.class_id[over.argmax(1)] == scene.classes + 1).all()
        assert found.masks is not None
        painted_rle = encode_masks(found.masks, found.xyxy, painted.SIZE)
        assert (rle_iou(scene.outlines, painted_rle).max(1) > 0.5).all()
    runtime.close()
