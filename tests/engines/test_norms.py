"""Normalisations that were folded into convolutions come out of them again."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from engines.errors import WeightsError
from engines.networks.blocks import fold_norms, folded_away, unfold_norms
from engines.networks.checkpoint import read_state_for


def stack(*, bias: bool = False) -> nn.Sequential:
    """Make convolutions of both kinds, one without a normalisation; every figure of these is another."""
    torch.manual_seed(0)
    within = nn.Sequential(nn.Conv3d(4, 6, 1, bias=bias), nn.BatchNorm3d(6, eps=1e-2), nn.Conv3d(6, 2, 1))
    made = nn.Sequential(nn.Conv3d(3, 4, 3, bias=bias), nn.BatchNorm3d(4), nn.ReLU(), within)
    for norm in (made[1], within[1]):
        assert isinstance(norm, nn.BatchNorm3d)
        norm.load_state_dict({name: torch.rand_like(each.float()) + 0.5 for name, each in norm.state_dict().items()})
    return made.eval()


@pytest.mark.parametrize("bias", [False, True])
def test_folded_and_unfolded_is_what_was_there(bias: bool) -> None:
    network = stack(bias=bias)
    before = {name: each for name, each in network.state_dict().items() if not name.endswith("tracked")}
    folded = fold_norms(copy.deepcopy(network)).state_dict()
    assert not torch.equal(folded["0.weight"], before["0.weight"])
    after = unfold_norms(network, folded, {name: each for name, each in before.items() if name not in folded})
    assert set(after) == set(before)
    for name, each in after.items():
        torch.testing.assert_close(each, before[name], msg=name)


def test_a_channel_that_is_switched_off_stays_so() -> None:
    """Its kernel cannot be known: it is zero, not NaN."""
    network = stack()
    network.state_dict()["1.weight"][2] = 0
    before = dict(network.state_dict())
    images = torch.randn(1, 3, 4, 4, 4)
    with torch.inference_mode():
        wanted = network(images)
    after = unfold_norms(network, fold_norms(copy.deepcopy(network)).state_dict(), before)
    assert all(each.isfinite().all() for each in after.values())
    network.load_state_dict(after)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), wanted)


def test_without_the_normalisations_nothing_is_taken_apart() -> None:
    folded = fold_norms(stack()).state_dict()
    assert unfold_norms(stack(), folded, {}) == folded
    assert folded_away(stack(), folded)
    assert not folded_away(stack(), stack().state_dict())


def test_what_was_never_folded_stays_as_it_is() -> None:
    """A graph that kept its normalisations has them as its own."""
    state = stack(bias=True).state_dict()
    assert unfold_norms(stack(bias=True), state, {}) == state


def test_an_onnx_file_that_is_none_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(b"none")
    with pytest.raises(WeightsError, match=r"w\.onnx is no ONNX network"):
        read_state_for(stack(), tmp_path / "w.onnx")
    with pytest.raises(WeightsError, match=r"there is no checkpoint .*gone\.onnx"):
        read_state_for(stack(), tmp_path / "gone.onnx")
