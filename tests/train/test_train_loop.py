"""The loop: schedules, the mean of weights, checkpoints that go on exactly, and what it leaves."""

from __future__ import annotations

import csv
import math
import multiprocessing
import os
import signal
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from engines.train.batches import batches
from engines.train.ema import Mean, halved
from engines.train.errors import TrainingError
from engines.train.log import FIGURES, LOSSES, PLOT, Table
from engines.train.loop import CHECKPOINT, WEIGHTS, fit
from engines.train.plan import Optimiser, Plan
from engines.train.task import moved

PLAN = Plan(steps=20, batch=8, lr=0.01, warmup=4, workers=0, log_every=5, evaluate_every=10, save_every=7, seed=3)
Pair = tuple[Tensor, Tensor]


class Sums:
    """Learn to add four numbers, with all that makes resuming hard: momentum, statistics and dropout."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        wide = nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Linear(16, 16)  # of which muon learns one
        self.model = nn.Sequential(*wide, nn.Dropout(0.3), nn.Linear(16, 1))

    def batch(self, step: int, size: int) -> Pair:
        numbers = torch.randn(size, 4, generator=torch.Generator().manual_seed(step))
        return numbers, numbers.sum(1, keepdim=True)

    def loss(self, batch: Pair) -> Mapping[str, Tensor]:
        numbers, sums = batch
        return {"square": (self.model(numbers).float() - sums).square().mean()}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        numbers, sums = self.batch(10_000, 64)
        return {"error": (model(numbers) - sums).detach().abs().mean().item()}


class Wrong(Sums):
    """Lose its mind at the seventh step."""

    def loss(self, batch: Pair) -> Mapping[str, Tensor]:
        return {"square": super().loss(batch)["square"] * (float("nan") if batch[0][0, 0] == self._seventh else 1)}

    @property
    def _seventh(self) -> Tensor:
        return self.batch(6, 8)[0][0, 0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimiser", get_args(Optimiser))
def test_a_training_that_was_interrupted_ends_as_one_that_was_not(
    precision: str, optimiser: str, tmp_path: Path
) -> None:
    plan = replace(PLAN, precision=precision, optimiser=optimiser)  # type: ignore[arg-type]  # of the right words
    whole = fit(Sums(), plan, tmp_path / "whole")
    assert fit(Sums(), plan, tmp_path / "halves", pause=lambda step: step == 10) is None
    halves = fit(Sums(), plan, tmp_path / "halves")
    assert halves == whole
    first, second = (torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "halves"))
    for part in ("model", "mean"):
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])
    assert (tmp_path / "whole" / WEIGHTS).read_bytes() == (tmp_path / "halves" / WEIGHTS).read_bytes()


def test_what_is_done_again_is_told_once(tmp_path: Path) -> None:
    """A machine that dies leaves a log that is longer than its checkpoint."""
    fit(Sums(), PLAN, tmp_path, pause=lambda step: step == 10)
    with (tmp_path / LOSSES).open("a") as file:
        file.write("15,1,1,1,1\n")
    fit(Sums(), PLAN, tmp_path)
    steps = {name: [row["step"] for row in csv.DictReader((tmp_path / name).open())] for name in (LOSSES, FIGURES)}
    assert steps == {LOSSES: ["5", "10", "15", "20"], FIGURES: ["10", "20"]}


def test_a_finished_training_is_measured_and_nothing_else(tmp_path: Path) -> None:
    done = fit(Sums(), PLAN, tmp_path)
    assert fit(Wrong(), PLAN, tmp_path) == done


def test_the_weights_are_the_mean_as_halves(tmp_path: Path) -> None:
    fit(Sums(), PLAN, tmp_path)
    mean = torch.load(tmp_path / CHECKPOINT, weights_only=True)["mean"]
    weights = torch.load(tmp_path / WEIGHTS, weights_only=True)
    assert weights.keys() == mean.keys()
    assert {value.dtype for value in weights.values()} == {torch.float16, torch.int64}
    assert all(torch.equal(weights[name], mean[name].half()) for name in mean if mean[name].is_floating_point())
    assert (tmp_path / PLOT).read_bytes().startswith(b"\x89PNG")


def test_another_plan_is_refused_but_another_pace_is_not(tmp_path: Path) -> None:
    fit(Sums(), PLAN, tmp_path, pause=lambda step: step == 10)
    with pytest.raises(TrainingError, match=r"lr was 0.01, not 0.02"):
        fit(Sums(), replace(PLAN, lr=0.02), tmp_path)
    assert fit(Sums(), replace(PLAN, save_every=3, log_every=4), tmp_path) is not None


def test_a_loss_that_is_no_number_ends_it_and_is_not_saved(tmp_path: Path) -> None:
    plan = replace(PLAN, save_every=4, log_every=5)
    with pytest.raises(TrainingError, match=r"no number before step 8 \(square nan\)"):
        fit(Wrong(), plan, tmp_path)
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert kept["step"] == 4
    assert all(value.isfinite().all() for value in kept["model"].values())


def test_it_learns(tmp_path: Path) -> None:
    plan = replace(PLAN, steps=300, ema=0.95, evaluate_every=1000, save_every=1000)
    figures = fit(Sums(), plan, tmp_path)
    assert figures is not None
    assert figures["error"] < 0.5 < Sums().evaluate(Sums().model.eval())["error"]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_whoever_makes_them(workers: int) -> None:
    found = list(batches(Sums(), replace(PLAN, workers=workers), 14))
    assert len(found) == 6
    for step, batch in enumerate(found, 14):
        assert torch.equal(batch[0], Sums().batch(step, PLAN.batch)[0])


class Deadly(Sums):
    """End the process that makes the third batch."""

    def batch(self, step: int, size: int) -> Pair:
        if step == 2:
            os._exit(1)
        return super().batch(step, size)


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="a process that makes batches ended"):
        fit(Deadly(), replace(PLAN, workers=1), tmp_path)


def test_no_process_outlives_a_training_that_pauses(tmp_path: Path) -> None:
    fit(Sums(), replace(PLAN, workers=2), tmp_path, pause=lambda step: step == 3)
    assert not multiprocessing.active_children()


def test_children_that_end_later_are_no_concern_of_ours(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    fit(Sums(), replace(PLAN, workers=1), tmp_path)
    assert signal.getsignal(signal.SIGCHLD) == before


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine() -> None:
    plan = Plan(steps=110, lr=1.0, warmup=10, floor=0.1)
    assert [plan.rate(step) for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert plan.rate(60) == pytest.approx(0.55)
    assert plan.rate(110) == pytest.approx(0.1)


def test_the_mean_follows_slowly_and_copies_counts() -> None:
    model = nn.BatchNorm1d(1)
    mean = Mean(model)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.num_batches_tracked.fill_(7)  # type: ignore[union-attr]  # it is tracked
    mean.follow(model, 0.75)
    state = mean.model.state_dict()
    assert (state["weight"].item(), state["num_batches_tracked"].item()) == (1 * 0.75 + 3 * 0.25, 7)
    assert not mean.model.training
    assert not any(each.requires_grad for each in mean.model.parameters())


def test_the_mean_forgets_what_it_began_with() -> None:
    plan = Plan(steps=10_000, ema=0.999)
    left = math.prod(plan.decay(step) for step in range(3000))
    assert left < 0.1
    assert plan.decay(0) < 0.01
    assert plan.decay(9999) == pytest.approx(0.999)


def test_what_a_half_cannot_hold_is_told() -> None:
    with pytest.raises(OverflowError, match=r"norm\.running_var"):
        halved({"weight": torch.ones(2), "norm.running_var": torch.tensor([1.0, 1e6])})


def test_tensors_are_moved_wherever_they_are() -> None:
    @dataclass(frozen=True)
    class Both:
        values: Tensor
        name: str

    named = namedtuple("named", "first second")
    batch: list[Any] = [(torch.ones(1), {"a": torch.ones(2)}), Both(torch.ones(3), "x"), named(torch.ones(4), None)]
    found = moved(batch, "meta")
    tensors = [found[0][0], found[0][1]["a"], found[1].values, found[2].first]
    assert [(each.device.type, len(each)) for each in tensors] == [("meta", n) for n in (1, 2, 3, 4)]
    assert found[1].name == "x"


def test_a_table_is_cut_where_a_checkpoint_was_written(tmp_path: Path) -> None:
    table = Table(tmp_path / "t.csv", 0)
    for step in (1, 2, 3):
        table.add({"step": step, "loss": step / 3})
    Table(tmp_path / "t.csv", 2)
    assert (tmp_path / "t.csv").read_text().splitlines() == ["step,loss", "1,0.333333", "2,0.666667"]
