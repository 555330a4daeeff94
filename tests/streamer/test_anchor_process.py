"""Recorded video through SSD and RetinaNet with random weights: whatever they find, it is written."""

from __future__ import annotations

import json
from pathlib import Path

import anchornets
import pytest
import videos
import yaml

from engines.manifest import Manifest, config_dir
from streamer.cli import main


@pytest.mark.parametrize("name", ["ssdlite320-mobilenetv3", "retinanet-r50"])
def test_a_clip_streams_through_a_network_with_random_weights(name: str, tmp_path: Path) -> None:
    told = anchornets.manifest(name)
    video = videos.write(tmp_path / "clip.mp4", videos.Clip(frames=3))
    anchornets.checkpoint(tmp_path / "w.pth", anchornets.network(told))
    own_manifest(name, told, tmp_path)
    pipeline = tmp_path / "p.yaml"
    nodes = {"found": {"kind": "detect", "model": str(tmp_path / "own.yaml"), "confidence": 0.2}}
    pipeline.write_text(yaml.safe_dump({"nodes": nodes, "runtime": {"prefer": ["onnxruntime"]}}))
    assert main(["process", str(video), "--out", str(tmp_path / "out"), "--pipeline", str(pipeline)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "clip.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    for item in (item for line in lines for item in line["results"]["found"]["items"]):
        assert item["class_id"] in range(91)
        assert 0 <= item["box"][0] < item["box"][2] <= 128


def own_manifest(name: str, told: Manifest, folder: Path) -> None:
    """Write a manifest of ours as a user's own, with weights beside it."""
    own = yaml.safe_load((config_dir() / "models" / f"{name}.yaml").read_text())
    own["weights"] = {"checkpoint": {"file": "w.pth"}}
    own["preprocess"]["size"] = list(told.preprocess.size)
    (folder / "own.yaml").write_text(yaml.safe_dump(own))
