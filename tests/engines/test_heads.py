"""Each head against its format's definition, written here a second time as loops over every anchor and class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import spox.opset.ai.onnx.v17 as op
from spox import Tensor, argument, build

from engines.build.heads import Place, decode, grid
from engines.errors import BuildError
from engines.outputs import Decoder, YoloV5Decoder, YoloV8Decoder, YoloV10Decoder, YoloxDecoder
from engines.runtimes import available, open_runtime
from engines.runtimes.base import RuntimeOptions
from engines.types import Array

SIZE = (64, 96)
CELLS = 8 * 12 + 4 * 6 + 2 * 3
RUNTIMES = ["openvino", "onnxruntime"]


@dataclass(frozen=True)
class Found:
    """One candidate."""

    score: float
    class_id: int
    box: tuple[float, ...]


Definition = Callable[[Array], Iterator[Found]]  # of one image's output


def around(cx: float, cy: float, w: float, h: float) -> tuple[float, ...]:
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def yolox(output: Array) -> Iterator[Found]:
    cells = ((x, y, s) for s in (8, 16, 32) for y in range(SIZE[0] // s) for x in range(SIZE[1] // s))
    for (x, y, s), (dx, dy, log_w, log_h, objectness, *classes) in zip(cells, output, strict=True):
        with np.errstate(over="ignore"):
            box = around((x + dx) * s, (y + dy) * s, np.exp(log_w) * s, np.exp(log_h) * s)
        yield from (Found(objectness * score, i, box) for i, score in enumerate(classes))


def yolov5(output: Array) -> Iterator[Found]:
    for cx, cy, w, h, objectness, *classes in output:
        best = int(np.argmax(classes))
        yield Found(objectness * classes[best], best, around(cx, cy, w, h))


def yolov8(output: Array) -> Iterator[Found]:
    for cx, cy, w, h, *classes in output.T:
        best = int(np.argmax(classes))
        yield Found(classes[best], best, around(cx, cy, w, h))


def yolov10(output: Array) -> Iterator[Found]:
    yield from (Found(score, int(class_id), tuple(box)) for *box, score, class_id in output)


@dataclass(frozen=True)
class Family:
    decoder: Callable[..., Decoder]
    shape: Callable[[int], tuple[int, int]]  # classes -> of one image's output
    definition: Definition
    scores: slice  # columns
    columns_last: bool = True

    def rows(self, output: Array) -> Array:
        """View (N, ...) with an anchor a row."""
        return output if self.columns_last else output.transpose(0, 2, 1)


FAMILIES = {
    "yolox": Family(YoloxDecoder, lambda c: (CELLS, 5 + c), yolox, slice(4, None)),
    "yolov5": Family(YoloV5Decoder, lambda c: (3 * CELLS, 5 + c), yolov5, slice(4, None)),
    "yolov8": Family(YoloV8Decoder, lambda c: (4 + c, CELLS), yolov8, slice(4, None), columns_last=False),
    "yolov10": Family(YoloV10Decoder, lambda _: (300, 6), yolov10, slice(4, 5)),
}
CUT = [kind for kind in FAMILIES if kind != "yolov10"]


def random_output(kind: str, classes: int, rows: int = 1, seed: int = 0) -> Array:
    family, rng = FAMILIES[kind], np.random.default_rng(seed)
    output = rng.uniform(-2, 60, (rows, *family.shape(classes))).astype(np.float32)
    table = family.rows(output)
    if kind == "yolox":
        table[..., :4] /= 30
    table[..., family.scores] = rng.uniform(0, 1, table[..., family.scores].shape)
    if kind == "yolov10":
        table[..., 4] = -np.sort(-table[..., 4])
        table[..., 5] = rng.integers(0, classes, table.shape[:2])
    return output


def head(kind: str, output: Array, classes: int, batch: int | None, **settings: object) -> onnx.ModelProto:
    """Make a graph of a head alone: the network's output is what it is fed."""
    raw = argument(Tensor(output.dtype, (batch, *output.shape[1:])))
    decoder = FAMILIES[kind].decoder(kind=kind, **settings)
    # Bound twice, for a backend may have the one output of an empty graph be its input.
    found = decode({"raw": op.identity(raw)}, decoder, Place(classes, SIZE))
    return build({"raw": raw}, {"boxes": found.boxes, "scores": found.scores, "classes": found.classes})


def run(runtime: str, model: onnx.ModelProto, output: Array, folder: Path) -> list[list[Found]]:
    if runtime not in available():
        pytest.skip(f"{runtime} is not installed: pip install 'streamer[test]'")
    onnx.save(model, folder / "head.onnx")
    opened = open_runtime(runtime, folder / "head.onnx", RuntimeOptions("fp32", max_batch=max(len(output), 1)))
    outputs = opened.infer({"raw": output})
    assert outputs["boxes"].dtype == outputs["scores"].dtype == np.float32
    assert outputs["classes"].dtype == np.int32
    columns = zip(outputs["scores"], outputs["classes"], outputs["boxes"], strict=True)
    return [[Found(float(s), int(c), tuple(map(float, b))) for s, c, b in zip(*row, strict=True)] for row in columns]


def assert_defined(found: list[Found], output: Array, definition: Definition, count: int | None = None) -> None:
    """See that *found* is what the definition gives, best first; among equal scores any choice and order will do."""
    worth = sorted((f for f in definition(output) if not math.isnan(f.score)), key=lambda f: -f.score)
    count = len(worth) if count is None else count
    real = [f for f in found if f.score >= 0]
    assert len(real) == min(count, len(worth))
    assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)
    assert [f.score for f in real] == pytest.approx([f.score for f in worth[:count]], rel=1e-5)
    left = list(worth)
    for candidate in real:
        left.remove(next(f for f in left if same(candidate, f)))


def same(one: Found, other: Found) -> bool:
    return (
        one.class_id == other.class_id
        and math.isclose(one.score, other.score, rel_tol=1e-5)
        and np.allclose(one.box, other.box, rtol=1e-4, atol=1e-3, equal_nan=True)
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("batch", [None, 1], ids=["any_batch", "batch_1"])
def test_random_outputs(runtime: str, kind: str, classes: int, batch: int | None, tmp_path: Path) -> None:
    output = random_output(kind, classes, rows=3 if batch is None else 1)
    settings = {} if kind == "yolov10" else {"candidates": 40}
    model = head(kind, output, classes, batch, **settings)
    for row, found in zip(output, run(runtime, model, output, tmp_path), strict=True):
        assert_defined(found, row, FAMILIES[kind].definition, None if kind == "yolov10" else 40)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", CUT)
def test_fewer_anchors_than_candidates(runtime: str, kind: str, tmp_path: Path) -> None:
    output = random_output(kind, 2)
    anchors = FAMILIES[kind].rows(output).shape[1]
    model = head(kind, output, 2, 1, candidates=3840)
    (found,) = run(runtime, model, output, tmp_path)
    assert len(found) == anchors
    assert_defined(found, output[0], FAMILIES[kind].definition, anchors)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", CUT)
def test_ties(runtime: str, kind: str, tmp_path: Path) -> None:
    output = random_output(kind, 3)
    table = FAMILIES[kind].rows(output)
    table[..., 4:] = np.round(table[..., 4:] * 2) / 2  # scores are 0, a quarter, a half and 1, the cut amid them
    (found,) = run(runtime, head(kind, output, 3, 1, candidates=50), output, tmp_path)
    assert_defined(found, output[0], FAMILIES[kind].definition, 50)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", FAMILIES)
def test_all_scores_are_nothing(runtime: str, kind: str, tmp_path: Path) -> None:
    output = random_output(kind, 2)
    FAMILIES[kind].rows(output)[..., FAMILIES[kind].scores] = 0
    (found,) = run(runtime, head(kind, output, 2, 1), output, tmp_path)
    assert {f.score for f in found} == {0}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_boxes_that_are_not_finite_leave_the_others_alone(runtime: str, kind: str, bad: float, tmp_path: Path) -> None:
    output = random_output(kind, 2)
    FAMILIES[kind].rows(output)[0, ::3, 2] = bad
    settings = {} if kind == "yolov10" else {"candidates": 60}
    (found,) = run(runtime, head(kind, output, 2, 1, **settings), output, tmp_path)
    whole = random_output(kind, 2)
    finite = [f for f in found if np.isfinite(f.box).all() and f.box[0] < f.box[2]]
    wanted = list(FAMILIES[kind].definition(whole[0]))
    assert finite
    assert all(any(same(f, w) for w in wanted) or kind == "yolox" for f in finite)
    assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", CUT)
def test_scores_that_are_nan_come_last_and_displace_nobody(runtime: str, kind: str, tmp_path: Path) -> None:
    output = random_output(kind, 2)
    table = FAMILIES[kind].rows(output)
    table[0, ::2, 4:] = np.nan
    (found,) = run(runtime, head(kind, output, 2, 1, candidates=table.shape[1]), output, tmp_path)
    assert_defined(found, output[0], FAMILIES[kind].definition, table.shape[1])
    assert {f.score for f in found if f.score < 0} <= {-1.0}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", FAMILIES)
def test_half_precision_outputs_lose_no_more_than_they_have_lost(runtime: str, kind: str, tmp_path: Path) -> None:
    output = random_output(kind, 3)
    if kind != "yolox":
        FAMILIES[kind].rows(output)[..., :2] += 600  # here a half counts in steps of a half pixel
    halves = output.astype(np.float16)
    settings = {} if kind == "yolov10" else {"candidates": 30}
    (found,) = run(runtime, head(kind, halves, 3, 1, **settings), halves, tmp_path)
    assert_defined(found, halves[0].astype(np.float32), FAMILIES[kind].definition, 30 if settings else None)


def test_a_cell_is_worth_as_much_as_several_of_its_classes(tmp_path: Path) -> None:
    output = np.zeros((1, CELLS, 8), np.float32)
    output[0, 12] = [0.5, 0.5, 0, 0, 1, 0.9, 0.2, 0.7]
    (found,) = run("openvino", head("yolox", output, 3, 1), output, tmp_path)
    cell = (0.0, 8.0, 8.0, 16.0)
    assert [(f.class_id, f.box) for f in found[:3]] == [(0, cell), (2, cell), (1, cell)]


def test_grids_are_listed_level_by_level_and_row_by_row() -> None:
    points = grid((32, 64), (16, 32))
    assert points.tolist() == [
        *([x, y, 16] for y in (0, 16) for x in (0, 16, 32, 48)),
        *([x, 0, 32] for x in (0, 32)),
    ]


def outputs(*shapes: tuple[int | None, ...] | None) -> dict[str, object]:
    return {f"output{i}": argument(Tensor(np.float32, shape)) for i, shape in enumerate(shapes)}


@pytest.mark.parametrize(
    ("kind", "shapes", "reason"),
    [
        ("yolox", [(1, CELLS, 7)], r"reads one output \(\?, 126, 8\).* gives \(1, 126, 7\)"),
        ("yolox", [(1, CELLS + 1, 8)], "correct size"),
        ("yolov5", [(1, 3, 8, 12, 8)], "gives"),
        ("yolov5", [(1, 9, 8), (1, 9, 8)], r"\(1, 9, 8\) and \(1, 9, 8\)"),
        ("yolov8", [(1, CELLS, 7)], r"\(\?, 7, \?\)"),
        ("yolov8", [(7, CELLS)], "gives"),
        ("yolov8", [(1, 7, None)], "does not say how many boxes"),
        ("yolov10", [(1, 300, 7)], r"\(\?, \?, 6\)"),
        ("yolov10", [None], "one of unknown shape"),
        ("yolov8", [], "gives"),
    ],
)
def test_outputs_of_another_network(kind: str, shapes: list[tuple[int, ...]], reason: str) -> None:
    with pytest.raises(BuildError, match=reason):
        decode(outputs(*shapes), FAMILIES[kind].decoder(kind=kind), Place(3, SIZE))  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [(1, 32, 16, 24), (1, 3, 8, 12, 8)])
def test_what_is_given_beside_the_one_output_is_left_alone(first: tuple[int, ...]) -> None:
    found = decode(outputs(first, (1, 3 * CELLS, 8)), YoloV5Decoder(kind="yolov5"), Place(3, SIZE))  # type: ignore[arg-type]
    assert found.boxes.unwrap_tensor().shape == (1, 300, 4)
