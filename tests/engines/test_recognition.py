"""Clips to scores: what is fed, which samples are taken, two streams in one, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import motionnets
import numpy as np
import pytest

from engines.errors import ManifestError, ModelError
from engines.load import open_recogniser
from engines.manifest import ClipInput, Manifest, read
from engines.recognition import ClipSpec, DecodeActions, FeedClips, Fused, OneStream, clip_spec
from engines.runtimes.base import RuntimeOptions
from engines.runtimes.fake import FakeRuntime
from engines.types import Array, Clip, Geometry, TensorSpec

SIZE = (6, 8)
Answer = Callable[[Array], Array]


def manifest(name: str = "m", classes: int = 3, **clip: object) -> Manifest:
    return Manifest.model_validate(
        {
            "name": name,
            "task": "recognise",
            "labels": [f"class {i}" for i in range(classes)],
            "preprocess": {"size": SIZE},
            "decoder": "actions",
            "clip": {"length": 4, "fps": 10, **clip},
            "weights": {"onnx": {"file": f"{name}.onnx"}},
        }
    )


def runtime(told: Manifest, answer: Answer, kind: type[FakeRuntime] = FakeRuntime, max_batch: int = 4) -> FakeRuntime:
    assert told.clip is not None
    name, dtype, channels = ("frames", np.uint8, 3) if told.clip.input == "rgb" else ("flows", np.float32, 2)
    inputs = (TensorSpec(name, np.dtype(dtype), (None, told.clip.length, *SIZE, channels)),)
    return kind(lambda feeds: {"probs": answer(feeds[name])}, inputs, max_batch=max_batch)


def stream(answer: Answer, max_batch: int = 4, **clip: object) -> OneStream:
    told = manifest(**clip)  # type: ignore[arg-type]  # what is left are words of the clip
    return OneStream(told, runtime(told, answer, max_batch=max_batch))


def numbered(length: int = 4, start: int = 0, flow: bool = False) -> Clip:
    """A clip whose samples are as bright as their number, and move by it to the right, and by ten times it down."""
    numbers = np.arange(start, start + length)[:, None, None, None]
    rgb = np.broadcast_to(numbers, (length, *SIZE, 3)).astype(np.uint8)
    uv = np.broadcast_to(numbers * np.array([1, 10]), (length, *SIZE, 2)).astype(np.float32)
    return Clip(rgb, uv if flow else None)


def samples(fed: Array) -> Array:
    """Answer with what the first three samples hold."""
    return fed[:, :3, 0, 0, 0].astype(np.float32)


def test_samples_come_in_order() -> None:
    (scores,) = stream(samples)([numbered(start=5)])
    assert scores.probs.tolist() == [5, 6, 7]


def test_flow_is_fed_as_it_is_u_before_v() -> None:
    found = stream(lambda fed: np.stack([fed[:, 1, 0, 0, 0], fed[:, 1, 0, 0, 1], fed[:, 0, 0, 0, 1]], 1), input="flow")
    (scores,) = found([numbered(start=5, flow=True)])
    assert scores.probs.tolist() == [6, 60, 50]


@pytest.mark.parametrize(("length", "first"), [(4, 0), (5, 0), (6, 1), (10, 3), (11, 3)])
def test_of_a_longer_clip_the_middle_is_taken(length: int, first: int) -> None:
    (scores,) = stream(samples)([numbered(length)])
    assert scores.probs.tolist() == [first, first + 1, first + 2]


def test_one_image_beside_ten_fields_is_the_fifth() -> None:
    """As Simonyan and Zisserman's pair sees it: an image in the middle of its stack."""
    found = stream(lambda fed: np.repeat(fed[:, 0, 0, 0, :1].astype(np.float32), 3, 1), length=1)
    assert found([numbered(10)])[0].probs[0] == 4


def test_any_number_of_clips_in_batches() -> None:
    found = stream(samples, max_batch=2)
    clips = [numbered(start=n) for n in range(5)]
    assert [scores.probs[0] for scores in found(clips)] == list(range(5))
    assert [scores.probs[0] for scores in found.begin(clips)()] == list(range(5))
    assert isinstance(found.model.runtime, FakeRuntime)
    assert found.model.runtime.batch_sizes == [2, 2, 1] * 2
    assert found([]) == []


def test_scores_outlast_the_runtimes_memory() -> None:
    memory = np.zeros((4, 3), np.float32)

    def answer(fed: Array) -> Array:
        memory[: len(fed)] = samples(fed)
        return memory[: len(fed)]

    found = stream(answer)
    (first,) = found([numbered(start=1)])
    found([numbered(start=9)])
    assert first.probs.tolist() == [1, 2, 3]


class Overlapping(FakeRuntime):
    """Answer with the feeds as they are when the outputs are asked for, so that memory used too early is seen."""

    lanes = 3

    def start(self, feeds: Mapping[str, Array]) -> Callable[[], Mapping[str, Array]]:
        return lambda: self.infer(feeds)


def test_what_is_under_way_is_not_written_over() -> None:
    told = manifest()
    found = OneStream(told, runtime(told, samples, Overlapping))
    waiting = [found.begin([numbered(start=n)]) for n in (1, 2, 3)]
    assert [finish()[0].probs[0] for finish in waiting] == [1, 2, 3]


# --- two streams ---


def constant(*probs: float) -> Answer:
    return lambda fed: np.tile(np.array(probs, np.float32), (len(fed), 1))


def fused(first: OneStream, second: OneStream, weights: tuple[float, float]) -> Fused:
    return Fused("pair", [first, second], weights, ClipSpec(4, 10.0, SIZE, frozenset({"rgb", "flow"})))


def test_scores_are_the_weighted_mean() -> None:
    pair = fused(stream(constant(1, 0, 0)), stream(constant(0, 0.5, 0.5), input="flow"), (1.0, 3.0))
    for scores in (pair([numbered(flow=True)]), pair.begin([numbered(flow=True)])()):
        assert scores[0].probs.tolist() == [0.25, 0.375, 0.375]
        assert scores[0].probs.dtype == np.float32
    assert pair.description == "fake + fake"


def test_each_stream_sees_its_part_of_the_same_clip() -> None:
    pair = fused(stream(samples, length=3), stream(lambda fed: samples(fed) * 100, input="flow"), (1.0, 1.0))
    (scores,) = pair([numbered(4, flow=True)])
    assert scores.probs.tolist() == [0, 50.5, 101]  # of flow all four samples, of images the middle three: 0, 1, 2


def test_every_stream_that_began_is_finished_when_another_fails() -> None:
    """Else a runtime would be closed while it works, or answer a later question with this one's outputs."""
    told, finished = manifest(), []

    class Watched(Overlapping):
        def start(self, feeds: Mapping[str, Array]) -> Callable[[], Mapping[str, Array]]:
            def finish() -> Mapping[str, Array]:
                finished.append(self)
                return self.infer(feeds)

            return finish

    watched = OneStream(told, runtime(told, samples, Watched))
    blind = stream(samples, input="flow")  # which fails for a clip without flow
    with pytest.raises(ModelError, match="no flow"):
        fused(watched, blind, (1.0, 1.0)).begin([numbered()])()
    with pytest.raises(ModelError, match="no flow"):
        fused(blind, watched, (1.0, 1.0)).begin([numbered()])()
    told_flow = manifest(input="flow")
    failing = OneStream(told_flow, runtime(told_flow, samples, Watched))
    with pytest.raises(ModelError, match="no flow"):
        fused(watched, failing, (1.0, 1.0)).begin([numbered()])()
    assert len(finished) == 3


def test_closing_closes_every_stream() -> None:
    streams = [stream(samples), stream(samples, input="flow")]
    fused(streams[0], streams[1], (1.0, 1.0)).close()
    for each in streams:
        with pytest.raises(ModelError, match="closed"):
            each([numbered(flow=True)])


# --- opened from a manifest ---


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'streamer[onnxruntime]'")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path  # type: ignore[return-value]  # pytest takes it as it is


def opened(path: Path) -> OneStream | Fused:
    return open_recogniser(
        read(path), lambda part: path.parent / part.weights.file.file, ["onnxruntime"], RuntimeOptions("fp32")
    )


def moving(u: float, v: float, length: int = 3, size: tuple[int, int] = (32, 48)) -> Clip:
    uv = np.broadcast_to(np.array([u, v], np.float32), (length, *size, 2)).copy()
    return Clip(np.zeros((length, *size, 3), np.uint8), uv)


def test_a_network_sees_motion_to_the_right_as_such(folder: Path) -> None:
    model = opened(motionnets.motion_manifest(folder))
    clips = [moving(-2, 0), moving(2, 0), moving(0, -2), moving(0, 2)]
    assert [int(scores.probs.argmax()) for scores in model(clips)] == [0, 1, 2, 3]
    assert model(clips)[0].probs.sum() == pytest.approx(1)
    model.close()


def test_motion_counts_up_to_the_limit_as_a_share_of_it(folder: Path) -> None:
    """Logits are a hundred times the flow that is fed: at 20 pixels, the default limit, they differ by 200."""
    model = opened(motionnets.motion_manifest(folder))
    far, farther, near = (scores.probs for scores in model([moving(20, 19), moving(200, 19), moving(0.02, 0)]))
    assert np.array_equal(far, farther)
    assert near[1] / near[0] == pytest.approx(np.exp(0.2), rel=1e-3)
    model.close()


def test_a_network_sees_bytes(folder: Path) -> None:
    model = opened(motionnets.brightness_manifest(folder))
    clips = [Clip(np.full((4, 16, 24, 3), level, np.uint8)) for level in (0, 130, 255)]
    assert [int(scores.probs.argmax()) for scores in model(clips)] == [0, 1, 2]
    model.close()


# --- what does not fit ---


def test_a_clip_without_flow_for_a_network_that_needs_some() -> None:
    with pytest.raises(ModelError, match="the clip has no flow: name the clips node's 'flow'"):
        stream(samples, input="flow")([numbered()])


@pytest.mark.parametrize("clip", [numbered(3), Clip(np.zeros((4, 6, 9, 3), np.uint8)), numbered(0)])
def test_a_clip_that_is_too_short_or_of_another_size(clip: Clip) -> None:
    with pytest.raises(ModelError, match="correct 'length' and 'size' of the clips node"):
        stream(samples)([clip])


@pytest.mark.parametrize(
    "inputs",
    [
        (),
        (TensorSpec("frames", np.dtype(np.uint8), (None, 4, 6, 9, 3)),),
        (TensorSpec("frames", np.dtype(np.float32), (None, 4, 6, 8, 3)),),
        (TensorSpec("frames", np.dtype(np.uint8), (None, 6, 8, 3)),),
    ],
)
def test_a_network_with_other_inputs_is_refused(inputs: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(ModelError, match="build it anew"):
        FeedClips(ClipInput(length=4, fps=10), SIZE, FakeRuntime(lambda feeds: feeds, inputs))


@pytest.mark.parametrize(
    "outputs", [{}, {"probs": np.zeros((1, 4), np.float32)}, {"probs": np.zeros((2, 3), np.float32)}]
)
def test_scores_for_other_classes_are_refused(outputs: Mapping[str, Array]) -> None:
    with pytest.raises(ModelError, match="correct 'labels'"):
        DecodeActions(3)(outputs, [Geometry(SIZE, (1.0, 1.0), (0.0, 0.0))])


# --- what a model wants to see ---


def test_one_network_wants_what_its_manifest_says() -> None:
    assert clip_spec(manifest(input="flow")) == ClipSpec(4, 10.0, SIZE, frozenset({"flow"}))


def pair_of(folder: Path, *names: str, labels: str = "[a, b]", size: str = "[6, 8]") -> Manifest:
    streams = ", ".join(f"{{model: {name}.yaml}}" for name in names)
    (folder / "pair.yaml").write_text(
        f"name: pair\ntask: recognise\nlabels: {labels}\npreprocess: {{size: {size}}}\n"
        f"decoder: {{kind: fusion, streams: [{streams}]}}\n"
    )
    return read(folder / "pair.yaml")


def part(folder: Path, name: str, clip: str, size: str = "[6, 8]", labels: str = "[a, b]") -> None:
    (folder / f"{name}.yaml").write_text(
        f"name: {name}\ntask: recognise\nlabels: {labels}\npreprocess: {{size: {size}}}\n"
        f"decoder: actions\nclip: {clip}\nweights: {{onnx: {{file: {name}.onnx}}}}\n"
    )


def test_two_streams_want_what_is_enough_for_both(tmp_path: Path) -> None:
    part(tmp_path, "still", "{length: 1, fps: 25}")
    part(tmp_path, "motion", "{length: 10, fps: 25, input: flow, form: stack}")
    assert clip_spec(pair_of(tmp_path, "still", "motion")) == ClipSpec(10, 25.0, SIZE, frozenset({"rgb", "flow"}))


@pytest.mark.parametrize(
    ("clip", "size", "labels"),
    [("{length: 4, fps: 30}", "[6, 8]", "[a, b]"), ("{length: 4, fps: 25}", "[6, 9]", "[a, b]"),
     ("{length: 4, fps: 25}", "[6, 8]", "[b, a]")],
)  # fmt: skip
def test_streams_that_do_not_go_together_are_refused(tmp_path: Path, clip: str, size: str, labels: str) -> None:
    part(tmp_path, "one", "{length: 4, fps: 25}")
    part(tmp_path, "other", clip, size, labels)
    with pytest.raises(ManifestError, match="take streams that go together"):
        clip_spec(pair_of(tmp_path, "one", "other"))


def test_a_stream_that_cannot_be_opened_closes_those_before(folder: Path) -> None:
    motionnets.brightness_manifest(folder)
    (folder / "absent.yaml").write_text((folder / "brightness.yaml").read_text().replace("brightness", "absent"))
    labels = f"[{', '.join(motionnets.BRIGHTNESS)}]"
    told = pair_of(folder, "brightness", "absent", labels=labels, size="[16, 24]")
    with pytest.raises(ModelError, match=r"absent\.onnx"):
        open_recogniser(told, lambda each: folder / each.weights.file.file, ["onnxruntime"], RuntimeOptions("fp32"))
