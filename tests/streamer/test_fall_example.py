"""The documented example of a node of one's own, as it is."""

from __future__ import annotations

import ast
import json
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from scenes import film

from engines.manifest import config_dir
from engines.types import Detections
from streamer import config
from streamer.cli import main
from streamer.stages.python import EachCamera, Place
from streamer.types import Frame, Note, Packet, Port
from streamer.wire import Encoder, OtherResult, decode, decode_event

EXAMPLE = config_dir() / "examples" / "fall.yaml"
SHARED = Path(__file__).resolve().parents[2] / "../shared"


def packet(seq: int, **values: object) -> Packet:
    return Packet(Frame("gate", seq, seq / 10, 0.0, 0, np.zeros((4, 4, 3), np.uint8)), values)


def test_the_example_is_twenty_lines_of_code_at_most() -> None:
    code = ast.unparse(ast.parse(EXAMPLE.with_suffix(".py").read_text()))
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith('"""')]
    assert len(lines) <= 20
    assert len(EXAMPLE.with_suffix(".py").read_text().splitlines()) <= 26


def test_the_example_tells_a_fall_once() -> None:
    settings = config.read(EXAMPLE, environ={})
    standing, lying = np.array([[10, 10, 20, 50]]), np.array([[10, 40, 50, 50]])
    fall = settings.nodes["fall"]
    assert isinstance(fall, config.Python)
    stage = EachCamera(fall.made, Place((Port("tracks", Detections),), Port("fall", Note), "Fall"))

    def tracked(box: Any) -> Detections:
        one = np.ones(1, np.int32)
        return Detections(box.astype(np.float32), one * 0, np.ones(1, np.float32), one * 7)

    given = [packet(i, tracks=tracked(box)) for i, box in enumerate((standing, standing, lying, lying, standing))]
    done = stage.process([*given, packet(5)])
    notes = [one.values.get("fall") for one in done]
    assert [note and list(note.data["lying"]) for note in notes[:5]] == [[], [], [7], [7], []]  # type: ignore[attr-defined]
    assert notes[5] is None
    encode = Encoder({})
    assert [len(encode.beside(one).events) for one in done] == [0, 0, 1, 0, 0, 0]
    event = decode_event(encode.beside(done[2]).events[0])
    assert (event.node, event.event.kind) == ("fall", "fell")
    assert event.event.model_dump() == {"kind": "fell", "track_id": 7, "pts": 0.2}
    result = decode(encode(done[2])).results["fall"]
    assert isinstance(result, OtherResult)
    assert result.data == {"lying": [7], "events": [{"kind": "fell", "pts": 0.2, "track_id": 7}]}


@pytest.mark.skipif(
    not (SHARED / "models/yolox_nano.onnx").exists() or not (SHARED / "media/street.mp4").exists(),
    reason="../shared/models/yolox_nano.onnx or ../shared/media/street.mp4 is not there",
)
def test_the_example_runs_as_it_is_over_a_real_street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_MODELS", str(SHARED / "models"))
    monkeypatch.chdir(tmp_path)
    clip = tmp_path / "street.mp4"
    with av.open(str(SHARED / "media/street.mp4")) as video:
        film(
            clip, (np.asarray(each.to_ndarray(format="rgb24"), np.uint8) for each in islice(video.decode(video=0), 40))
        )
    # Who walks is wider than half as high now and then: with the ratio of a real fall, nobody does here.
    options = "nodes.fall.options.ratio=0.45"
    assert main(["process", str(clip), "--out", "out", "--pipeline", str(EXAMPLE), "--set", options]) == 0
    messages = [json.loads(line)["results"] for line in (tmp_path / "out/street.jsonl").read_text().splitlines()]
    assert len(messages) == 40
    seen = 0
    for results in messages:
        wide = [
            item["track_id"]
            for item in results["tracks"]["items"]
            if item["box"][2] - item["box"][0] > 0.451 * (item["box"][3] - item["box"][1])
        ]
        assert set(wide) <= set(results.get("fall", {"lying": []})["lying"])
        seen += len(wide)
    assert seen > 0, "somebody is as wide as that"
    assert any(event["kind"] == "fell" for r in messages for event in r.get("fall", {}).get("events", ()))
