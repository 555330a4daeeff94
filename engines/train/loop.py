"""The training loop: the same for every task, and exact when it goes on.

A step's random numbers depend on the seed and the step alone, and a checkpoint holds all the rest. What runs on CUDA
has not been run where it was written, for want of a device; it is the same code but for pinned memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from engines.build.base import Tell, silent
from engines.build.files import write_whole
from engines.train.batches import batches
from engines.train.ema import Mean, halved
from engines.train.errors import TrainingError
from engines.train.log import FIGURES, LOSSES, Table, Window, draw
from engines.train.muon import Muon, Together, is_inner
from engines.train.plan import PACE, Plan
from engines.train.task import Task, moved

Batch = TypeVar("Batch")
Pause = Callable[[int], bool]  # asked after each step, with how many are done

CHECKPOINT, WEIGHTS = "last.pt", "weights.pt"
_STEP = 0x9E3779B9  # keeps the steps of one seed from those of its neighbours


def never(_step: int) -> bool:
    """Learn to the end."""
    return False


def fit(
    task: Task[Batch], plan: Plan, out: Path, tell: Tell = silent, pause: Pause = never
) -> Mapping[str, float] | None:
    """Teach a task's network by a plan, going on from the checkpoint in *out* if one is there.

    Leaves there the averaged weights as float16 (`weights.pt`), the losses and figures as CSV, and their plot. Returns
    the last figures, or None when it paused. Raises TrainingError when the loss is no number any more, or when the
    checkpoint is of another plan.
    """
    out.mkdir(parents=True, exist_ok=True)
    learner = Learner(task, plan)
    learner.resume(out / CHECKPOINT)
    run = _Run(learner, out, tell)
    with closing(batches(task, plan, learner.step)) as coming:
        for batch in coming:
            run.step(batch)
            if pause(learner.step):
                run.save()
                return None
    return run.finish()


class Learner(Generic[Batch]):
    """A network with its optimiser and its mean."""

    def __init__(self, task: Task[Batch], plan: Plan) -> None:
        self.task, self.plan = task, plan
        self.device = torch.device(plan.device)
        self.model = task.model.to(self.device).train()
        self.optimiser = _optimiser(self.model, plan)
        self.mean = Mean(self.model)
        self.step = 0
        self.seconds = 0.0  # of all its runs

    def learn(self, batch: Batch) -> Mapping[str, Tensor]:
        """Take one step."""
        plan = self.plan
        torch.manual_seed(plan.seed * _STEP + self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = plan.rate(self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
            parts = self.task.loss(moved(batch, self.device))
        torch.stack([part.float() for part in parts.values()]).sum().backward()  # type: ignore[no-untyped-call]  # torch's
        nn.utils.clip_grad_norm_(self.model.parameters(), plan.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.mean.follow(self.model, plan.decay(self.step))
        self.step += 1
        return parts

    def evaluate(self) -> Mapping[str, float]:
        with torch.inference_mode():
            return self.task.evaluate(self.mean.model)

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        content = {
            "plan": asdict(self.plan),
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "mean": self.mean.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        _write(path, content)

    def resume(self, path: Path) -> None:
        """Go on where a checkpoint was written; at the beginning where there is none."""
        if not path.is_file():
            return
        content: Mapping[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        _check_plan(path, content["plan"], self.plan)
        self.model.load_state_dict(content["model"])
        self.mean.model.load_state_dict(content["mean"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.step, self.seconds = content["step"], content["seconds"]


class _Run(Generic[Batch]):
    """What happens between steps: losses are noted, figures taken, checkpoints written."""

    def __init__(self, learner: Learner[Batch], out: Path, tell: Tell) -> None:
        self.learner, self.plan, self.out, self.tell = learner, learner.plan, out, tell
        self.window, self.since = Window(), time.monotonic()
        self.losses, self.figures = (Table(out / name, learner.step) for name in (LOSSES, FIGURES))

    def step(self, batch: Batch) -> None:
        self.window.add(self.learner.learn(batch))
        now = time.monotonic()
        self.learner.seconds, self.since = self.learner.seconds + now - self.since, now
        done, plan = self.learner.step, self.plan
        if done % plan.log_every == 0:
            self._note()
        if done == plan.steps:
            return
        if done % plan.save_every == 0:
            self.save()
        if done % plan.evaluate_every == 0:
            self._measure()

    def save(self) -> None:
        self.window.means(self.learner.step)  # what has gone wrong is not to be gone on with
        self.learner.save(self.out / CHECKPOINT)

    def finish(self) -> Mapping[str, float]:
        self.save()
        return self._measure()

    def _note(self) -> None:
        learner = self.learner
        means = self.window.read(learner.step)
        self.losses.add(self._when() | {"rate": self.plan.rate(learner.step - 1)} | means)
        told = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
        self.tell(f"step {learner.step}/{self.plan.steps} ({learner.seconds:.0f} s): {told}")

    def _measure(self) -> Mapping[str, float]:
        """Take the figures, and leave the weights that have them; the best are not picked, which would be to cheat."""
        figures = self.learner.evaluate()
        self.figures.add(self._when() | dict(figures))
        _write(self.out / WEIGHTS, _stored(self.learner.mean.model))
        draw(self.out, self.out.name)
        told = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self.tell(f"step {self.learner.step}/{self.plan.steps}: {told}")
        return figures

    def _when(self) -> dict[str, float]:
        return {"step": self.learner.step, "seconds": round(self.learner.seconds, 1)}


def _optimiser(model: nn.Module, plan: Plan) -> torch.optim.Optimizer | Together:
    """Make the optimiser; what has one axis, or none, is not decayed."""
    learnt = [each for each in model.parameters() if each.requires_grad]
    inner = [each for each in learnt if plan.optimiser == "muon" and is_inner(each)]
    outer = [each for each in learnt if not any(each is one for one in inner)]
    groups = [
        {"params": [each for each in outer if each.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [each for each in outer if each.ndim <= 1], "weight_decay": 0.0},
    ]
    if inner:
        return Together(Muon(inner, plan.lr, plan.weight_decay), torch.optim.AdamW(groups, plan.lr))
    if plan.optimiser == "sgd":
        return torch.optim.SGD(groups, plan.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, plan.lr)


def _check_plan(path: Path, before: Mapping[str, object], plan: Plan) -> None:
    now = asdict(plan)
    differ = [f"{name} was {before.get(name)}, not {now[name]}" for name in now if before.get(name) != now[name]]
    differ = [each for each in differ if each.partition(" ")[0] not in PACE]
    if differ:
        raise TrainingError(f"{path} is of another plan ({', '.join(differ)}): ask for the same, or another folder")


def _stored(model: nn.Module) -> dict[str, Tensor]:
    try:
        return halved(model.state_dict())
    except OverflowError as error:
        raise TrainingError(f"{error} is too large to be stored as float16: train with a lower rate") from error


def _write(path: Path, content: Mapping[str, object]) -> None:
    data = BytesIO()
    torch.save(content, data)
    write_whole(path, data.getvalue())
