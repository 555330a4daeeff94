"""What both TensorRTs are run with, on a GPU in host memory that works at the last moment, or at the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ModelError
from engines.runtimes.base import Overlapping
from engines.runtimes.device import DeviceError
from engines.runtimes.fake_device import FakeContext, FakeDevice
from engines.runtimes.trt_core import Context, Network, TrtRuntime
from engines.types import Array, TensorSpec

FRAMES = TensorSpec("frames", np.dtype(np.uint8), (None, 4, 3))
DOUBLE = TensorSpec("double", np.dtype(np.float32), (None, 4, 3))
SUMS = TensorSpec("sums", np.dtype(np.int32), (None,))
Works = Literal["late", "early"]


def double_and_sums(feeds: Mapping[str, Array]) -> dict[str, Array]:
    frames = feeds["frames"]
    return {"double": frames * np.float32(2), "sums": frames.sum(axis=(1, 2), dtype=np.int32)}


@dataclass
class World:
    """A device, and the engine that runs on it."""

    device: FakeDevice
    handler: Callable[[Mapping[str, Array]], Mapping[str, Array]] = double_and_sums
    contexts: list[FakeContext] = field(default_factory=list)

    def network(self) -> Network:
        return Network(
            name="m.engine",
            inputs=(FRAMES,),
            outputs=(DOUBLE, SUMS),
            least=1,
            most=8,
            scratch=100,
            captures_itself=False,
            new_context=self.new_context,
            complaint=lambda: "it is upset",
        )

    def new_context(self, scratch: int) -> Context:
        context = FakeContext(self.device, (FRAMES,), (DOUBLE, SUMS), self.handler, scratch)
        self.contexts.append(context)
        return context

    def open(self, max_batch: int = 4) -> TrtRuntime:
        return TrtRuntime(self.network(), self.device, max_batch, "fake 1.0")

    @property
    def held(self) -> int:
        memory = self.device.memory()
        return memory.total - memory.free


@pytest.fixture(params=["late", "early"])
def world(request: pytest.FixtureRequest) -> World:
    return World(FakeDevice(request.param))


def frames(rows: int, value: int) -> dict[str, Array]:
    return {"frames": np.full((rows, 4, 3), value, np.uint8) + np.arange(rows, dtype=np.uint8)[:, None, None]}


def assert_right(outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> None:
    for name, expected in double_and_sums(feeds).items():
        assert np.array_equal(outputs[name], expected), name


def test_it_is_a_runtime_that_overlaps(world: World) -> None:
    runtime = world.open()
    assert isinstance(runtime, Overlapping)
    assert runtime.inputs == (FRAMES,)
    assert runtime.outputs == (DOUBLE, SUMS)
    assert runtime.max_batch == 4
    assert world.open(max_batch=99).max_batch == 99  # in parts of what the engine takes
    assert runtime.description == "fake 1.0 fake sm_00, CUDA graphs"


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 250)), max_size=12), st.sampled_from(["late", "early"]))
def test_every_batch_gets_its_own_answer_whatever_came_before(batches: list[tuple[int, int]], works: Works) -> None:
    runtime = World(FakeDevice(works)).open()
    for rows, value in batches:
        feeds = frames(rows, value)
        assert_right(runtime.infer(feeds), feeds)


@given(st.data(), st.sampled_from(["late", "early"]))
def test_batches_under_way_do_not_meet(data: st.DataObject, works: Works) -> None:
    """Three at a time, feeds overwritten once they are finished, outputs held until three more have started."""
    runtime = World(FakeDevice(works)).open()
    begun = []
    finished: list[tuple[Mapping[str, Array], dict[str, Array]]] = []
    for value in range(data.draw(st.integers(0, 12))):
        feeds = frames(data.draw(st.integers(1, 4)), value * 20)
        begun.append((runtime.start(feeds), feeds))
        if len(begun) == runtime.lanes or data.draw(st.booleans()):
            finish, fed = begun.pop(0)
            finished.append((finish(), {name: feed.copy() for name, feed in fed.items()}))
            fed["frames"][:] = 0
        held = runtime.lanes - len(begun)
        for outputs, expected in finished[-held:] if held else []:
            assert_right(outputs, expected)
    for finish, feeds in begun:
        assert_right(finish(), feeds)


def test_the_device_works_while_the_caller_does_not_wait() -> None:
    world = World(FakeDevice("late"))
    runtime = world.open()
    world.device.journal.clear()
    first, second = runtime.start(frames(2, 1)), runtime.start(frames(2, 7))
    assert world.device.journal == []
    assert_right(second(), frames(2, 7))
    assert_right(first(), frames(2, 1))


def test_infer_leaves_alone_what_is_under_way(world: World) -> None:
    runtime = world.open()
    finish = runtime.start(frames(3, 1))
    assert_right(runtime.infer(frames(3, 50)), frames(3, 50))
    assert_right(finish(), frames(3, 1))


def test_a_size_that_comes_again_is_launched_whole(world: World) -> None:
    runtime = world.open()
    world.device.journal.clear()
    for value in range(3):
        assert_right(runtime.infer(frames(2, value)), frames(2, value))
    step_by_step = ["upload", "run 2", "download", "download"]
    launched = [entry for step in step_by_step for entry in ("launch", step)]
    assert world.device.journal == step_by_step + 2 * launched


def test_only_rows_that_hold_something_are_run(world: World) -> None:
    runtime = world.open()
    world.device.journal.clear()
    runtime.infer(frames(3, 1))
    assert "run 3" in world.device.journal


def test_opening_runs_the_largest_batch_until_its_graph_is_there(world: World) -> None:
    runtime = world.open()
    assert "launch" in world.device.journal
    world.device.journal.clear()
    runtime.infer(frames(4, 9))
    assert world.device.journal[0] == "launch"


def test_a_batch_that_is_too_small_for_the_engine_is_padded(world: World) -> None:
    runtime = TrtRuntime(replace(world.network(), least=3, most=3), world.device, 2, "fake")
    assert runtime.max_batch == 2
    for rows in (1, 2, 1):
        outputs = runtime.infer(frames(rows, 5))
        assert_right(outputs, frames(rows, 5))
        assert len(outputs["sums"]) == rows
    assert {entry for entry in world.device.journal if entry.startswith("run")} == {"run 3"}


@pytest.mark.parametrize("captures_itself", [False, True])
@pytest.mark.parametrize(("least", "most"), [(1, 1), (2, 3), (3, 3)])
def test_a_batch_that_is_too_large_for_the_engine_goes_through_it_in_parts(
    world: World, least: int, most: int, captures_itself: bool
) -> None:
    network = replace(world.network(), least=least, most=most, captures_itself=captures_itself)
    runtime = TrtRuntime(network, world.device, 8, "fake")
    assert runtime.max_batch == 8
    for rows in (8, 1, 7, 7, 7, 4, 8):
        outputs = runtime.infer(frames(rows, rows))
        assert_right(outputs, frames(rows, rows))
        assert len(outputs["sums"]) == rows
    ran = {int(entry.removeprefix("run ")) for entry in world.device.journal if entry.startswith("run")}
    assert least <= min(ran)
    assert max(ran) <= most


def test_fewer_rows_than_the_engine_takes_may_be_asked_for(world: World) -> None:
    runtime = TrtRuntime(replace(world.network(), least=3), world.device, 2, "fake")
    assert runtime.max_batch == 2
    assert_right(runtime.infer(frames(2, 5)), frames(2, 5))


def test_a_library_with_graphs_of_its_own_gets_one_context_a_lane(world: World) -> None:
    network = replace(world.network(), captures_itself=True, scratch=0)
    runtime = TrtRuntime(network, world.device, 4, "fake")
    for rows in (1, 4, 1, 2, 2):
        assert_right(runtime.infer(frames(rows, rows)), frames(rows, rows))
    assert len(world.contexts) == 1
    assert "launch" not in world.device.journal
    assert runtime.description.endswith("CUDA graphs of its own")


def test_feeds_may_be_any_view(world: World) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (8, 3, 4), np.uint8)
    view = whole[::2].transpose(0, 2, 1)
    view.flags.writeable = False
    assert_right(world.open().infer({"frames": view}), {"frames": view})


def test_wrong_feeds_are_refused_and_do_no_harm(world: World) -> None:
    runtime = world.open()
    for feeds in ({}, {"frames": np.zeros((5, 4, 3), np.uint8)}, {"frames": np.zeros((1, 4, 3), np.float32)}):
        with pytest.raises(ModelError, match=r"m\.engine.*'frames'"):
            runtime.infer(feeds)
    assert_right(runtime.infer(frames(1, 1)), frames(1, 1))


# --- the end ---


def test_closed_it_gives_everything_back_and_outputs_stay(world: World) -> None:
    runtime = world.open()
    outputs = runtime.infer(frames(2, 3))
    runtime.start(frames(1, 1))()
    assert world.held > 0
    assert world.device.graphs
    runtime.close()
    runtime.close()
    assert world.held == 0
    assert not world.device.graphs
    assert not world.device.streams
    assert_right(outputs, frames(2, 3))
    with pytest.raises(ModelError, match="closed"):
        runtime.infer(frames(1, 1))
    assert runtime.description


def test_closed_while_running_what_was_begun_is_done(world: World) -> None:
    runtime = world.open()
    first, second = runtime.start(frames(2, 1)), runtime.start(frames(3, 40))
    runtime.close()
    assert_right(first(), frames(2, 1))
    assert_right(second(), frames(3, 40))


def test_what_is_given_up_harms_no_later_batch(world: World) -> None:
    runtime = world.open()
    world.device.journal.clear()
    for value in range(7):
        runtime.start(frames(4, value))
    assert "launch" in world.device.journal  # nor the graph that is made of it
    assert_right(runtime.start(frames(4, 99))(), frames(4, 99))


@pytest.mark.parametrize("captures_itself", [False, True])
def test_contexts_are_gone_before_the_memory_that_they_use(world: World, captures_itself: bool) -> None:
    held: list[int] = []

    class Mortal(FakeContext):
        def __del__(self) -> None:
            held.append(len(world.device.streams))

    def new_context(scratch: int) -> Context:
        return Mortal(world.device, (FRAMES,), (DOUBLE, SUMS), double_and_sums, scratch)

    network = replace(world.network(), captures_itself=captures_itself, new_context=new_context)
    runtime = TrtRuntime(network, world.device, 4, "fake")
    for rows in (1, 2, 3, 3):
        runtime.infer(frames(rows, 1))
    runtime.close()
    assert len(held) == (1 if captures_itself else 4)
    assert all(held)  # the stream goes last


def test_closing_runs_what_the_library_wants_done(world: World) -> None:
    done: list[int] = []
    network = replace(world.network(), at_close=lambda: done.append(world.held))
    TrtRuntime(network, world.device, 4, "fake").close()
    assert done == [0]


# --- what goes wrong ---


def test_no_room_says_what_to_lower_and_leaves_nothing_behind() -> None:
    world = World(FakeDevice(room=500))
    with pytest.raises(ModelError, match=r"m\.engine: fake sm_00 has no room .* free\): lower 'limits") as caught:
        world.open(max_batch=8)
    assert "\n" not in str(caught.value)
    assert world.held == 0
    assert not world.device.streams
    world.open(max_batch=1)


def test_no_room_for_more_lanes_leaves_the_one_there_is() -> None:
    world = World(FakeDevice(room=700))
    runtime = world.open()
    with pytest.raises(ModelError, match="no room"):
        runtime.start(frames(1, 1))
    assert_right(runtime.infer(frames(2, 2)), frames(2, 2))
    runtime.close()
    assert world.held == 0


def test_a_device_that_fails_is_named_with_what_to_do(world: World) -> None:
    def failing(_feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        raise DeviceError("cudaErrorIllegalAddress: an illegal memory access was encountered")

    world.handler = failing
    with pytest.raises(ModelError, match=r"m\.engine: fake sm_00 cannot run it \(cudaErrorIllegal.*streamer models"):
        world.open()
    assert world.held == 0


def test_a_failure_in_the_middle_is_the_batchs_own(world: World) -> None:
    def picky(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        if feeds["frames"].max() > 200:
            raise DeviceError("too bright")
        return double_and_sums(feeds)

    world.handler = picky
    runtime = world.open()
    with pytest.raises(ModelError, match="too bright"):
        runtime.start(frames(1, 201))()
    assert_right(runtime.start(frames(1, 7))(), frames(1, 7))


def test_a_library_that_refuses_is_quoted(world: World) -> None:
    class Refusing(FakeContext):
        def execute_async_v3(self, stream_handle: int) -> bool:
            return False

    def new_context(scratch: int) -> Context:
        return Refusing(world.device, (FRAMES,), (DOUBLE, SUMS), double_and_sums, scratch)

    with pytest.raises(ModelError, match="it is upset"):
        TrtRuntime(replace(world.network(), new_context=new_context), world.device, 4, "fake")
    assert world.held == 0


def test_a_library_without_room_is_understood(world: World) -> None:
    class Refusing(FakeContext):
        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            return False

    def new_context(scratch: int) -> Context:
        return Refusing(world.device, (FRAMES,), (DOUBLE, SUMS), double_and_sums, scratch)

    network = replace(world.network(), new_context=new_context, complaint=lambda: "Cuda Runtime (out of memory)")
    with pytest.raises(ModelError, match="close other programs"):
        TrtRuntime(network, world.device, 4, "fake")


def test_a_network_that_cannot_be_captured_runs_step_by_step_and_says_so(world: World) -> None:
    class Uncapturable(FakeContext):
        def execute_async_v3(self, stream_handle: int) -> bool:
            if self.device.streams[stream_handle].is_capturing:
                raise DeviceError("operation not permitted when stream is capturing")
            return super().execute_async_v3(stream_handle)

    def new_context(scratch: int) -> Context:
        return Uncapturable(world.device, (FRAMES,), (DOUBLE, SUMS), double_and_sums, scratch)

    runtime = TrtRuntime(replace(world.network(), new_context=new_context), world.device, 4, "fake")
    for value in range(3):
        assert_right(runtime.infer(frames(2, value)), frames(2, value))
    assert "launch" not in world.device.journal
    assert "no CUDA graphs (operation not permitted" in runtime.description
