"""From one runtime to the next: never an answer lost, and only when both agree."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benches import bench, frames
from hypothesis import given
from hypothesis import strategies as st

from engines.build.base import Material, Order, Profile
from engines.build.cache import EngineCache
from engines.build.graph import material
from engines.build.obtain import obtain, stale
from engines.build.openvino import OpenVinoBuilder
from engines.build.rebuild import Rebuild
from engines.build.sidecar import label
from engines.errors import BuildError, ModelError
from engines.runtimes import open_runtime
from engines.runtimes.base import Overlapping, Runtime, RuntimeOptions
from engines.runtimes.fake import FakeRuntime
from engines.runtimes.handover import Handover, Opening, same_candidates
from engines.runtimes.openvino import open_openvino
from engines.types import Array, TensorSpec

F32 = np.dtype(np.float32)
INPUTS, OUTPUTS = (TensorSpec("x", F32, (None, 2)),), (TensorSpec("y", F32, (None, 2)),)
OPTIONS = RuntimeOptions(max_batch=4, threads=1)
ORDER = Order(profile=Profile(1, 4, 4), threads=1)


def fake(factor: float, max_batch: int = 4) -> FakeRuntime:
    return FakeRuntime(lambda feeds: {"y": feeds["x"] * factor}, INPUTS, OUTPUTS, max_batch)


class Shared(FakeRuntime):
    """Overlap: memory for each lane, used again when its turn comes, and an order that is checked."""

    def __init__(self, factor: float, lanes: int) -> None:
        super().__init__(lambda feeds: {"y": feeds["x"] * factor}, INPUTS, OUTPUTS, 4)
        self.lanes = lanes
        self.memory = deque(np.zeros((4, 2), np.float32) for _ in range(lanes))
        self.begun: deque[object] = deque()

    def start(self, feeds: Mapping[str, Array]) -> Callable[[], Mapping[str, Array]]:
        assert not self.closed
        assert len(self.begun) < self.lanes, "more under way than it takes"
        me = object()
        self.begun.append(me)
        self.batch_sizes.append(len(feeds["x"]))
        self.memory.rotate(-1)
        into = self.memory[-1][: len(feeds["x"])]

        def finish() -> Mapping[str, Array]:
            assert self.begun.popleft() is me, "finished out of order"
            into[:] = self.handler(feeds)["y"]
            return {"y": into}

        return finish

    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return self.start(feeds)()

    def close(self) -> None:
        super().close()
        for memory in self.memory:
            memory[:] = np.nan


class Arrival:
    """A runtime that comes after some polls, or never."""

    def __init__(self, runtime: Runtime | Exception | None, after: int = 2) -> None:
        self.runtime, self.after, self.closed = runtime, after, False

    def poll(self) -> Runtime | None:
        self.after -= 1
        if self.after >= 0:
            return None
        if isinstance(self.runtime, Exception):
            raise self.runtime
        return self.runtime

    def close(self) -> None:
        self.closed = True


def agree(_old: object, _new: object) -> None:
    """Agree with everything."""


def same(old: Mapping[str, Array], new: Mapping[str, Array]) -> str | None:
    return None if np.array_equal(old["y"], new["y"]) else "they differ"


def x(rows: int, value: float = 1.0) -> dict[str, Array]:
    return {"x": np.full((rows, 2), value, np.float32)}


def test_feeds_are_left_alone_as_long_as_a_pipeline_needs_them() -> None:
    """One batch is being finished, one waits, and one is begun: memory for three, whatever overlaps underneath."""
    handover = Handover(fake(1), Arrival(None), same, print)
    canvases = deque(np.zeros((1, 2), np.float32) for _ in range(handover.lanes))
    finishes = []
    for value in range(3):
        canvases.rotate(-1)
        canvases[-1][:] = value
        finishes.append(handover.start({"x": canvases[-1]}))
    assert [float(finish()["y"][0, 0]) for finish in finishes] == [0, 1, 2]


def test_it_serves_with_the_old_until_the_new_one_has_agreed_often_enough() -> None:
    said: list[str] = []
    old, new = fake(1), fake(2)
    runtime = Handover(old, Arrival(new), agree, said.append, batches=3)
    got = [float(runtime.infer(x(1))["y"][0, 0]) for _ in range(8)]
    assert got == [1, 1, 1, 1, 1, 1, 2, 2]  # two polls in vain, one that brings it, three trials
    assert said == ["the new engine gives the same, and serves from now on: fake"]


def test_the_old_one_is_closed_when_its_outputs_are_no_longer_anybodys() -> None:
    old, new = Shared(1, 3), Shared(1, 3)
    runtime = Handover(old, Arrival(new, 0), same, print, batches=1)
    assert isinstance(runtime, Overlapping)
    held = [runtime.start(x(2, n)) for n in range(3)]
    last = [finish()["y"] for finish in held][-1]
    for n in range(3):
        assert not old.closed
        assert (last == 2).all()
        runtime.infer(x(1, 10 + n))
    runtime.infer(x(1))
    assert old.closed
    assert not new.closed


@pytest.mark.parametrize(
    ("coming", "words"),
    [
        (BuildError("the build failed"), "the build failed"),
        (fake(2), "they differ"),
        (fake(1, max_batch=2), "batches of 2 only, where 4 are needed"),
        (FakeRuntime(lambda feeds: feeds, (TensorSpec("z", F32, (None, 2)),), OUTPUTS), "other inputs"),
        (FakeRuntime(lambda feeds: feeds, INPUTS, (TensorSpec("y", F32, (None, 3)),)), "other outputs"),
        (FakeRuntime(lambda feeds: feeds, INPUTS, (replace(OUTPUTS[0], dtype=np.dtype(np.int32)),)), "other outputs"),
    ],
    ids=["failed", "differs", "smaller", "inputs", "outputs", "dtype"],
)
def test_what_does_not_come_or_fit_or_agree_changes_nothing(coming: FakeRuntime | BuildError, words: str) -> None:
    said: list[str] = []
    old, arrival = fake(1), Arrival(coming)
    runtime = Handover(old, arrival, same, said.append)
    assert all((runtime.infer(x(2, n))["y"] == n).all() for n in range(10))
    assert len(said) == 1
    assert words in said[0]
    assert arrival.closed
    assert not old.closed
    assert isinstance(coming, BuildError) or coming.closed


def test_a_new_one_that_cannot_run_is_let_go() -> None:
    def refuse(_feeds: object) -> Mapping[str, Array]:
        raise ModelError("out of memory")

    said: list[str] = []
    new = FakeRuntime(refuse, INPUTS, OUTPUTS)
    runtime = Handover(fake(1), Arrival(new, 0), same, said.append)
    assert all((runtime.infer(x(1, n))["y"] == n).all() for n in range(5))
    assert "out of memory" in said[0]
    assert new.closed


@pytest.mark.parametrize("new_lanes", [None, 1, 2, 3, 5])
@pytest.mark.parametrize("old_lanes", [None, 2, 3])
def test_no_batch_is_lost_or_mixed_up_however_they_overlap(old_lanes: int | None, new_lanes: int | None) -> None:
    """One thread begins, another finishes, and the outputs are read as late as is allowed."""
    old, new = (Shared(3, n) if n else fake(3) for n in (old_lanes, new_lanes))
    runtime = Handover(old, Arrival(new, 5), same, print, batches=3)
    under_way: deque[tuple[int, Future[Callable[[], Mapping[str, Array]]]]] = deque()
    kept: deque[tuple[int, Array]] = deque()
    with ThreadPoolExecutor(1) as beginner:
        for n in range(60):
            if len(under_way) == runtime.lanes - 1:
                was, begun = under_way.popleft()
                kept.append((was, begun.result()()["y"]))
            under_way.append((n, beginner.submit(runtime.start, x(1 + n % 4, n))))
            under_way[-1][1].result()
            if kept:
                was, output = kept.popleft()
                assert (output == 3 * was).all()
                assert len(output) == 1 + was % 4
        for was, begun in under_way:
            assert (begun.result()()["y"] == 3 * was).all()
    assert old.closed
    assert len(new.batch_sizes) > 40
    runtime.close()
    assert new.closed


@pytest.mark.parametrize("batches", range(8))
def test_closed_at_any_time_it_closes_all_that_it_has(batches: int) -> None:
    old, new = fake(1), fake(1)
    arrival = Arrival(new)
    runtime = Handover(old, arrival, same, print, batches=2)
    for _ in range(batches):
        runtime.infer(x(1))
    runtime.close()
    runtime.close()
    assert old.closed
    assert arrival.closed
    assert new.closed or batches < 3  # it was never handed over


def test_people_see_that_it_waits() -> None:
    runtime = Handover(fake(1), Arrival(fake(1), 0), same, print, batches=1)
    assert runtime.description == "fake, a new engine is coming"
    runtime.infer(x(1))
    runtime.infer(x(1))
    assert runtime.description == "fake"


# --- what is the same ---


def found(*objects: tuple[float, int, tuple[float, float, float, float]]) -> dict[str, Array]:
    """Make candidates of one image, padded as a graph gives them."""
    rows = sorted(objects, reverse=True) + [(0.01, 0, (0.0, 0.0, 1.0, 1.0))] * 3
    scores, classes, boxes = zip(*rows, strict=True)
    return {
        "boxes": np.array([boxes], np.float32),
        "scores": np.array([scores], np.float32),
        "classes": np.array([classes], np.int32),
    }


CAR = (0.8, 2, (100.0, 100.0, 200.0, 180.0))
CAT = (0.4, 15, (10.0, 20.0, 60.0, 90.0))


@pytest.mark.parametrize(
    "new",
    [
        found(CAT, CAR),
        found((0.75, 2, (101.0, 99.0, 201.0, 182.0)), CAT),
        found(CAR, CAT, (0.25, 3, CAR[2])),
        found(CAR, (0.79, 2, (102.0, 100.0, 200.0, 180.0)), CAT),
    ],
    ids=["order", "a little off", "one more, not sure", "one more of the same object"],
)
def test_the_same_objects(new: dict[str, Array]) -> None:
    assert same_candidates(found(CAR, CAT), new) is None
    assert same_candidates(new, found(CAR, CAT)) is None


@pytest.mark.parametrize(
    "new",
    [
        found(CAR),
        found(CAR, CAT, (0.5, 0, (300.0, 0.0, 320.0, 50.0))),
        found((0.8, 7, CAR[2]), CAT),
        found((0.8, 2, (150.0, 100.0, 250.0, 180.0)), CAT),
        found((0.6, 2, CAR[2]), CAT),
        found((float("nan"), 2, CAR[2]), CAT),
        found((0.8, 2, (float("nan"), 0.0, 1.0, 1.0)), CAT),
        found(),
    ],
    ids=["lost", "invented", "class", "moved", "score", "nan score", "nan box", "nothing"],
)
def test_other_objects(new: dict[str, Array]) -> None:
    for why in (same_candidates(found(CAR, CAT), new), same_candidates(new, found(CAR, CAT))):
        assert why
        assert "\n" not in why


def test_what_a_segmenter_gives_besides_is_not_looked_at() -> None:
    masks = np.zeros((1, 5, 28, 28), np.float32)
    assert same_candidates({**found(CAR, CAT), "masks": masks}, {**found(CAR, CAT), "masks": masks + 1}) is None


def test_no_candidates_at_all() -> None:
    nothing: dict[str, Array] = {
        "boxes": np.zeros((1, 0, 4)),
        "scores": np.zeros((1, 0)),
        "classes": np.zeros((1, 0), np.int32),
    }
    assert same_candidates(nothing, nothing) is None
    assert same_candidates(found(), nothing) is None
    for why in (same_candidates(found(CAR), nothing), same_candidates(nothing, found(CAR))):
        assert why is not None
        assert "best score" in why


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.sampled_from([CAR[2], CAT[2]])), max_size=6))
def test_candidates_are_the_same_as_themselves(
    objects: list[tuple[float, int, tuple[float, float, float, float]]],
) -> None:
    assert same_candidates(found(*objects), found(*objects)) is None


# --- with real engines, built by a real child process ---


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Material:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return bench(tmp_path)


def opened(path: Path) -> Runtime:
    return open_openvino(path, OPTIONS)


def scores(runtime: Runtime, said: list[str]) -> Iterator[Array]:
    """Serve, at the pace of a camera, until something is said."""
    for _ in range(3000):
        if said:
            return
        yield runtime.infer(frames(2))["scores"]
        time.sleep(0.02)  # the child needs a core too
    pytest.fail("nothing was said for a minute")


def changed(made: Material, old: bytes, new: bytes) -> Material:
    """Put other weights into the place of those that there are."""
    assert len(old) == len(new)
    made.weights.write_bytes(made.weights.read_bytes().replace(old, new))
    return material(made.manifest, made.weights)


@pytest.mark.parametrize("stopgap", ["openvino", "onnxruntime"])
def test_a_stale_engine_serves_until_a_child_has_built_the_new_one(
    made: Material, executor: Executor, stopgap: str
) -> None:
    pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    cache, said = EngineCache(), list[str]()
    first = obtain(made, "openvino", ORDER, cache)
    newer = changed(made, b"bright_spots", b"bright_stars")
    old = stale(newer, "openvino", ORDER, cache)
    assert old is not None
    path = old.path if stopgap == "openvino" else obtain(newer, stopgap, ORDER, cache)
    rebuild = Rebuild(newer, "openvino", ORDER, cache)
    runtime = Handover(
        open_runtime(stopgap, path, OPTIONS), Opening(rebuild, opened, executor), same_candidates, said.append
    )
    wanted = opened(first).infer(frames(2))["scores"].copy()
    for got in scores(runtime, said):
        np.testing.assert_allclose(got, wanted, atol=0.05)
    assert said[0].startswith("the new engine gives the same, and serves from now on: openvino")
    np.testing.assert_allclose(runtime.infer(frames(2))["scores"], wanted, atol=0.05)
    runtime.close()
    assert stale(newer, "openvino", ORDER, cache) is None


def test_a_new_engine_that_sees_other_things_does_not_take_over(made: Material, executor: Executor) -> None:
    cache, said = EngineCache(), list[str]()
    current = opened(obtain(made, "openvino", ORDER, cache))
    blind = changed(made, np.float32(1 / 255).tobytes(), np.float32(0).tobytes())
    rebuild = Rebuild(blind, "openvino", ORDER, cache)
    runtime = Handover(current, Opening(rebuild, opened, executor), same_candidates, said.append)
    assert all(got.max() > 0.9 for got in scores(runtime, said))
    assert "goes on serving" in said[0]
    assert "the best score of image 0 is 0.00 from the new engine, but was 0.9" in said[0]
    runtime.close()


def test_a_rebuild_that_fails_says_why_in_one_line(made: Material, executor: Executor) -> None:
    cache, said = EngineCache(), list[str]()
    current = opened(obtain(made, "openvino", ORDER, cache))
    made.weights.write_bytes(b"no network")
    rebuild = Rebuild(material(made.manifest, made.weights), "openvino", ORDER, cache)
    runtime = Handover(current, Opening(rebuild, opened, executor), same_candidates, said.append)
    assert all(got.max() > 0.9 for got in scores(runtime, said))
    assert "the rebuild of bright for OpenVINO failed: " in said[0]
    assert "bright.onnx is no ONNX network" in said[0]
    assert "\n" not in said[0]
    runtime.close()


def test_closed_while_it_builds_the_child_is_ended(made: Material, executor: Executor) -> None:
    cache = EngineCache()
    current = opened(obtain(made, "openvino", ORDER, cache))
    newer = changed(made, b"bright_spots", b"bright_stars")
    wanted = label(newer, "openvino", ORDER, OpenVinoBuilder().identity(ORDER))
    with cache.building(wanted):  # so that the child cannot be done
        rebuild = Rebuild(newer, "openvino", ORDER, cache)
        runtime = Handover(current, Opening(rebuild, opened, executor), same_candidates, print)
        runtime.infer(frames(1))
        runtime.close()
        with pytest.raises(ProcessLookupError):
            os.kill(rebuild.pid, 0)
    assert stale(newer, "openvino", ORDER, cache) is not None
