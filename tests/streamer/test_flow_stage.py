"""Flow means what it says, in pixels of the source, whatever lies between; and it never spans a break."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moving import Motion, inner, middles, moved, packet, shift, texture, turn
from moving import field as true_field
from worlds import Script

from engines.classical import open_classical
from engines.motion import Pair, Placed
from engines.types import Flow as FlowField
from engines.types import Geometry, Image
from streamer.pipeline import Pipeline
from streamer.sinks.memory import MemorySink
from streamer.stages.base import Overlapping
from streamer.stages.every import every
from streamer.stages.flow import Flow
from streamer.types import Packet, Port, RawFrame

FLOW = Port("flow", FlowField)


def dis() -> Flow:
    return Flow(open_classical("dis", 8), FLOW)


# --- what a flow means ---


@pytest.mark.parametrize("size", [(288, 512), (360, 640), (243, 517), (721, 403), (160, 200)])
@pytest.mark.parametrize("motion", ["right", "down", "turn", "zoom"])
def test_a_known_motion_comes_out_of_the_whole_path(size: tuple[int, int], motion: str) -> None:
    pixels = 0.01 * max(size)
    known: Motion = {
        "right": shift(pixels, 0),
        "down": shift(0, pixels),
        "turn": turn(1.5, 1.0, size),
        "zoom": turn(0, 1.02, size),
    }[motion]
    image = texture(size)
    (_, after) = dis().process([packet(image, 0), packet(moved(image, known), 1)])
    flow = after.get(FLOW)
    assert flow is not None
    assert flow.seconds == pytest.approx(0.1)
    error = np.linalg.norm(flow.uv - true_field(known, middles(flow.uv.shape[:2], size)), axis=2)
    assert np.median(inner(error)) < 0.12 * pixels
    assert inner(error).mean() < 0.2 * pixels


def test_flow_runs_from_the_earlier_frame_to_the_later_one() -> None:
    image = texture((288, 512))
    frames = [image, moved(image, shift(6, 0)), moved(image, shift(6, -9))]
    found = [one.get(FLOW) for one in dis().process([packet(frame, seq) for seq, frame in enumerate(frames)])]
    assert found[0] is None
    means = [np.median(flow.uv, axis=(0, 1)) for flow in found if flow is not None]
    np.testing.assert_allclose(means, [[6, 0], [0, -9]], atol=0.4)


# --- which frames are paired ---


@dataclass
class Differences:
    """A model whose flow says which pictures it was given: u the earlier one's level, v the later one's."""

    batches: list[int] = field(default_factory=list)

    def place(self, image: Image) -> Placed:
        height, width = image.shape[:2]
        return Placed(image.copy(), Geometry((height, width), (1.0, 1.0), (0.0, 0.0)))

    def __call__(self, pairs: Sequence[Pair]) -> list[FlowField]:
        self.batches.append(len(pairs))
        return [
            FlowField(np.array([[[p.before.pixels[0, 0, 0], p.after.pixels[0, 0, 0]]]], np.float32), p.seconds)
            for p in pairs
        ]

    def begin(self, pairs: Sequence[Pair]) -> Callable[[], list[FlowField]]:
        done = self(pairs)
        return lambda: done

    def close(self) -> None:
        self.batches.append(-1)


def level(value: int, size: tuple[int, int] = (4, 6)) -> Image:
    return np.full((*size, 3), value, np.uint8)


def pairs(packets: Sequence[Packet]) -> list[tuple[str, int, int] | None]:
    """What every packet's flow was made of: camera, earlier and later level."""
    flows = [(one.frame.camera, one.get(FLOW)) for one in packets]
    return [None if flow is None else (camera, *flow.uv[0, 0].astype(int).tolist()) for camera, flow in flows]


@given(st.lists(st.sampled_from(["gate", "yard", "roof", "-gate", "|"]), max_size=40))
def test_any_mix_of_cameras_breaks_and_batches(steps: list[str]) -> None:
    """A flow is that of the camera's frame before; `-gate` breaks that camera, `|` ends a batch."""
    stage, batch, last = Flow(Differences(), FLOW), list[Packet](), dict[str, int]()
    got: list[Packet] = []
    expected: list[tuple[str, int, int] | None] = []
    for seq, step in enumerate(steps):
        if step[0] in "-|":
            got += stage.process(batch)
            batch = []
            if step[0] == "-":
                stage.forget(step[1:])
                last.pop(step[1:], None)
            continue
        batch.append(packet(level(seq), seq, step))
        expected.append((step, last[step], seq) if step in last else None)
        last[step] = seq
    got += stage.process(batch)
    assert pairs(got) == expected


def test_pairs_of_several_cameras_share_a_batch() -> None:
    model = Differences()
    stage = Flow(model, FLOW)
    for seq in range(3):
        stage.process([packet(level(seq), seq, camera) for camera in "abc"])
    stage.close()
    assert model.batches == [0, 3, 3, -1]


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (packet(level(1), 1, pts=4.9), "time runs back"),
        (packet(level(1), 1, pts=5.0), "time stands still"),
        (packet(level(1), 1, pts=15.1), "too long ago"),
        (packet(level(1, (4, 7)), 1, pts=5.1), "another size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_motion_has_no_flow(second: Packet, why: str) -> None:
    stage, frame = Flow(Differences(), FLOW, gap=10.0), second.frame
    third = packet(level(2, (4, frame.image.shape[1])), 2, pts=frame.pts + 0.1)
    assert pairs(stage.process([packet(level(0), 0, pts=5.0), second, third])) == [None, None, ("gate", 1, 2)], why


def test_a_flow_over_several_frames_says_how_long_it_took() -> None:
    stage = every(3, Flow(Differences(), FLOW))
    got = stage.process([packet(level(seq), seq) for seq in range(8)])
    assert pairs(got) == [None, None, None, ("gate", 0, 3), None, None, ("gate", 3, 6), None]
    flow = got[3].get(FLOW)
    assert flow is not None
    assert flow.seconds == pytest.approx(0.3)


def test_in_a_pipeline_that_works_ahead() -> None:
    stage, sink = Flow(Differences(), FLOW), MemorySink()
    assert isinstance(stage, Overlapping)

    def raw(index: int) -> RawFrame:
        return RawFrame(index / 10, lambda: level(index), breaks=index == 20)

    Pipeline([Script("gate", [[raw(i) for i in range(40)]])], [stage], [sink]).run()
    assert pairs(sink.packets) == [None if i in (0, 20) else ("gate", i - 1, i) for i in range(40)]
