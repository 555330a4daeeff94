"""Checkpoints: those that fit are loaded strictly, all others are refused with one sentence that says why."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchnets

from engines.errors import WeightsError
from engines.networks.checkpoint import fill, fill_body, open_network, read_state_dict

MEMORY = {"F32": torch.float32, "F16": torch.float16, "I64": torch.int64}


class Runs:
    """A pickle that runs code when it is opened, as anybody can make one."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def refused(path: Path, key: str | None = None) -> str:
    with pytest.raises(WeightsError) as caught:
        read_state_dict(path, key)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def as_safetensors(state: dict[str, torch.Tensor]) -> bytes:
    names = {dtype: name for name, dtype in MEMORY.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for key, value in state.items():
        raw = value.numpy().tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[key] = {"dtype": names[value.dtype], "shape": list(value.shape), "data_offsets": offsets}
        data += raw
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + data


@pytest.mark.parametrize("zipped", [True, False], ids=["today's format", "that of torch 1.5"])
def test_a_public_checkpoint_is_loaded_as_it_is(tmp_path: Path, zipped: bool) -> None:
    network = torchnets.network(seed=1)
    path = tmp_path / "yolox_nano.pth"
    torch.save({"model": network.state_dict(), "start_epoch": 1}, path, _use_new_zipfile_serialization=zipped)
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(open_network(torchnets.manifest(), path)(images), network(images))


def test_the_state_dict_may_lie_deep_or_be_all_there_is(tmp_path: Path) -> None:
    state = {"weight": torch.rand(2, 3)}
    torch.save({"ema": {"model": state}}, tmp_path / "deep.pt")
    torch.save(state, tmp_path / "plain.pth.tar")
    assert torch.equal(read_state_dict(tmp_path / "deep.pt", "ema.model")["weight"], state["weight"])
    assert torch.equal(read_state_dict(tmp_path / "plain.pth.tar")["weight"], state["weight"])


def test_accuracy_beside_the_weights_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "best_ckpt.pth"
    torch.save({"model": {"w": torch.ones(1)}, "best_ap": np.float64(0.4), "curr_ap": np.float32(0.3)}, path)
    assert read_state_dict(path, "model")["w"] == 1


def test_safetensors_are_read_without_their_library(tmp_path: Path) -> None:
    state = {"a": torch.rand(2, 3), "b": torch.tensor(7), "c": torch.rand(4).half(), "none": torch.zeros(0, 3)}
    path = tmp_path / "w.safetensors"
    path.write_bytes(as_safetensors(state))
    got = read_state_dict(path)
    assert got.keys() == state.keys()
    assert all(torch.equal(got[key], state[key]) for key in state)


@pytest.mark.parametrize("kept", [0, 4, 30, -1])
def test_a_damaged_safetensors_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(as_safetensors({"a": torch.rand(20)})[:kept])
    assert "damaged" in refused(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "it ran"
    torch.save({"model": Runs(trace)}, path, _use_new_zipfile_serialization=zipped)
    assert "holds Python code" in refused(path, "model")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Runs(trace)))
    refused(tmp_path / "bare.pth")
    assert not trace.exists()


def test_a_whole_module_is_code(tmp_path: Path) -> None:
    torch.save(torchnets.network(), tmp_path / "module.pth")
    assert "state_dict()" in refused(tmp_path / "module.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_half_a_checkpoint_is_refused(tmp_path: Path, zipped: bool, share: float) -> None:
    path = tmp_path / "half.pth"
    torch.save({"model": torchnets.network().state_dict()}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "download it again" in refused(path, "model")


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html>" * 50, b"no weights" * 9, bytes(5000), b"PK\x03\x04" + bytes(90)]
)
def test_something_else_is_refused(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    assert "download it again" in refused(tmp_path / "w.pth")
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    assert "there is no checkpoint" in refused(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("content", "key", "complaint"),
    [
        ({"model": {"w": torch.ones(1)}, "epoch": 3}, None, "but 'model': say with 'key'"),
        ({"model": {"w": torch.ones(1)}}, "state_dict", "no 'state_dict', but 'model'"),
        ({"w": torch.ones(1)}, "model", "leave 'key' out"),
        ([1, 2], None, "but a list"),
        ({}, None, "nothing like it"),
    ],
)
def test_where_the_weights_are_is_helped_with(tmp_path: Path, content: object, key: str | None, complaint: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    assert complaint in refused(tmp_path / "w.pth", key)


@pytest.mark.parametrize(
    ("variant", "classes", "complaint"),
    [
        ("nano", 3, r"cls_preds\.0\.weight \(80, 64, 1, 1\) for \(3, 64, 1, 1\).* other classes: correct 'labels'"),
        ("tiny", 80, r"lacks .*dark2\.0\.conv\.weight.* and \d+ more.*'variant'"),
        ("s", 80, "'variant'"),
    ],
)
def test_weights_of_another_network_say_what_they_are(variant: str, classes: int, complaint: str) -> None:
    state = torchnets.network().state_dict()
    with pytest.raises(WeightsError, match=r"w\.pth does not fit.*" + complaint) as caught:
        fill(torchnets.network(variant, classes), state, Path("w.pth"))
    assert len(str(caught.value)) < 700


def test_variants_that_differ_only_in_width_are_told_apart() -> None:
    with pytest.raises(WeightsError, match="another variant: correct 'variant'"):
        fill(torchnets.network("tiny"), torchnets.network("s").state_dict(), Path("w.pth"))


def test_what_is_too_much_is_refused_too() -> None:
    state = torchnets.network().state_dict()
    with pytest.raises(WeightsError, match="it has extra"):
        fill(torchnets.network(), {**state, "extra": torch.ones(1)}, Path("w.pth"))


def test_old_weights_need_not_count_their_batches() -> None:
    network, given = torchnets.network(), torchnets.network(seed=1)
    fill(network, {k: v for k, v in given.state_dict().items() if "num_batches" not in k}, Path("w.pth"))
    assert torch.equal(
        network.get_parameter("head.stems.0.conv.weight"), given.get_parameter("head.stems.0.conv.weight")
    )


def test_a_body_is_taken_over_by_a_network_of_other_classes() -> None:
    """What reads the classes stays as it was; everything else is the given one's."""
    given, network = torchnets.network("tiny", classes=80), torchnets.network("tiny", classes=3)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    taken, whole = fill_body(network, given.state_dict(), Path("w.pth"))
    after = network.state_dict()
    kept = [key for key in after if "cls_preds" in key]
    assert (len(kept), taken, whole) == (6, len(after) - 6, len(after))
    assert all(torch.equal(after[key], before[key]) for key in kept)
    assert all(torch.equal(after[key], given.state_dict()[key]) for key in after if key not in kept)


def test_a_body_that_has_nothing_in_common_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"w\.pth has nothing by the names and in the shapes of this network"):
        fill_body(torchnets.network("tiny"), {"other.weight": torch.ones(1)}, Path("w.pth"))
