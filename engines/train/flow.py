"""Teaching networks of FlowNet's kind: on the world and on moving shapes of all textures, or on a user's .flo files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from engines.feeds import feed_of
from engines.geometry import Size
from engines.manifest import Manifest
from engines.metrics.baselines import nothing_moves
from engines.metrics.flow import FlowError, flow_error
from engines.motion import DecodeFlow, upsample
from engines.networks import build_network
from engines.networks.flownet import PIXELS, FlowNet, FlowNetPyramid, FlowNetS
from engines.networks.served import Feeding
from engines.outputs import FlowDecoder
from engines.preprocess import PreprocessSpec, place
from engines.train.data.chairs import Chairs
from engines.train.data.flo import find_triples, read_triple
from engines.train.data.pairs import FlowBatch, FlowPair, batched
from engines.train.data.photometry import Photometry
from engines.train.data.worldpairs import HELD_OUT, WorldPairs, held_out
from engines.train.energy import see_motion
from engines.train.errors import TrainingError
from engines.train.losses.flow import multiscale
from engines.train.task import Subject
from engines.types import Float, Image
from engines.world import Conditions

Generator = np.random.Generator

# Of what is learnt from at a time: multiples of 64; in an eighth of it no map of 1 x 1 is halved, whose gradient the
# CPU's bf16 gets wrong.
CROP: Size = (256, 448)
WORLD_SHARE = 0.75  # of the pairs; the rest are shapes, which are what makes it see motion in real video
_SLOPE = 0.1  # of the network's activations below zero
_STRENGTH = 0.9  # of its first filters
_APART = (0.1, 0.2, 0.4)  # seconds between pictures, where figures are taken
_MOVING = Conditions(pan=4)  # a camera that somebody carries
_WORLDS = 10  # of each
_OURS = Photometry(each=0.15, noise=0.02)
_THEIRS = Photometry(both=0.5, each=0.2, noise=0.02, blur=0.1)  # real images are not clean to begin with
_ONE_IN = 20  # of a user's pairs is measured on, and not learnt from


class Pairs(Protocol):
    """Where pairs come from."""

    def batch(self, step: int, count: int) -> list[FlowPair]:
        """Make so many pairs of one size, whatever was asked before."""
        ...

    def measured(self) -> Mapping[str, Sequence[FlowPair]]:
        """Give pairs that are never learnt from, by the name of what they are."""
        ...


class FlowTask:
    """A network of FlowNet's kind, the pairs that it learns from, and its error on others."""

    def __init__(self, manifest: Manifest, pairs: Pairs) -> None:
        self.model = _network(manifest)
        self._manifest, self._pairs = manifest, pairs
        self._feeding = Feeding(feed_of(manifest))
        self._still: dict[str, float] = {}

    def batch(self, step: int, size: int) -> FlowBatch:
        return batched(self._pairs.batch(step, size))

    def loss(self, batch: FlowBatch) -> Mapping[str, Tensor]:
        truth = batch.flow / scale(self._manifest)
        *before, last = self.model.looks(self._fed(batch.frames))
        parts = {f"look{n}": multiscale(fields, truth, batch.known) for n, fields in enumerate(before, 1)}
        return parts | {"flow": multiscale(last, truth, batch.known)}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Give the endpoint error in pixels of each kind of pairs, and beside it what it is to say that none moves."""
        served = Estimator(self._manifest, model, self._feeding)
        figures: dict[str, float] = {}
        for name, pairs in self._pairs.measured().items():
            if name not in self._still:
                self._still[name] = mean_error(pairs, nothing_moves)
            figures |= {name: mean_error(pairs, served), f"{name}_still": self._still[name]}
        return figures

    def _fed(self, frames: Tensor) -> Tensor:
        self._feeding.to(frames.device)
        fed: Tensor = self._feeding(frames)
        return fed.contiguous(memory_format=torch.channels_last)


class Estimator:
    """Find the flow of two images of any size as it is served: placed, and brought back to where it belongs."""

    def __init__(self, manifest: Manifest, model: nn.Module, feeding: Feeding) -> None:
        told = manifest.preprocess
        self._spec = PreprocessSpec(told.size, told.resize, told.align, told.pad)
        self._model, self._feeding = model, feeding
        self._decode, self._scale = DecodeFlow(told.size), scale(manifest)

    def __call__(self, before: Image, after: Image) -> Float:
        placed = [place(image, self._spec) for image in (before, after)]
        frames = torch.from_numpy(np.stack([pixels for pixels, _ in placed])[None])
        device = next(self._model.parameters()).device
        with torch.inference_mode():
            found = self._model(self._feeding.to(device)(frames.to(device))).float() * self._scale
        field = np.ascontiguousarray(found.cpu().numpy().transpose(0, 2, 3, 1))
        (flow,) = self._decode({"flow": field}, [placed[0][1]])
        return upsample(flow.uv, (before.shape[0], before.shape[1]))


def mean_error(pairs: Sequence[FlowPair], estimate: Callable[[Image, Image], Float]) -> float:
    """Average the endpoint error over all pixels of pairs, in pixels."""
    errors = (flow_error(pair.uv, estimate(pair.before, pair.after), pair.known) for pair in pairs)
    return FlowError.mean(errors).endpoint


def scale(manifest: Manifest) -> float:
    """Tell how many pixels one unit of a network's output is."""
    assert isinstance(manifest.decoder, FlowDecoder), "by its task"  # noqa: S101 - for the type checker
    return manifest.decoder.scale


class MadePairs:
    """Pairs of the world, and of moving shapes."""

    def __init__(self, seed: int, size: Size = CROP, share: float = WORLD_SHARE) -> None:
        self._seed, self._share = seed, share
        self._world, self._chairs = WorldPairs(seed, size), Chairs(seed, size)
        self._strange = Chairs(HELD_OUT + seed, size)

    def batch(self, step: int, count: int) -> list[FlowPair]:
        rng = np.random.default_rng((self._seed, 24, step))
        places = round(self._share * count / 2)
        pairs = [pair for at in range(places) for pair in self._world.pairs(step, at)]
        pairs += [self._chairs.pair(step * count + at) for at in range(count - len(pairs))]
        return [pair.disturbed(rng, _OURS) for pair in pairs]

    def measured(self) -> Mapping[str, Sequence[FlowPair]]:
        worlds = {f"world_{seconds:g}s": held_out(_WORLDS, seconds) for seconds in _APART}
        worlds |= {f"moving_{seconds:g}s": held_out(_WORLDS, seconds, _MOVING) for seconds in _APART}
        return worlds | {"shapes": [self._strange.pair(number) for number in range(2 * _WORLDS)]}


class FoundPairs:
    """Pairs of a user's folder; every 20th is measured on."""

    def __init__(self, folder: Path, seed: int, size: Size = CROP) -> None:
        """Look for pairs. Raises TrainingError where there are too few to learn from, or they are too small."""
        triples = find_triples(folder)
        self._held = triples[::_ONE_IN]
        self._learnt = [each for i, each in enumerate(triples) if i % _ONE_IN]
        if not self._learnt:
            raise TrainingError(f"{folder} holds {len(triples)} pair, of which one is measured on: give more")
        self._seed, self._size = seed, size

    def batch(self, step: int, count: int) -> list[FlowPair]:
        """Take pairs in an order of chance, each as often as any other."""
        return [self._pair(step * count + i) for i in range(count)]

    def measured(self) -> Mapping[str, Sequence[FlowPair]]:
        return {"found": [read_triple(each) for each in self._held]}

    def _pair(self, number: int) -> FlowPair:
        turn, at = divmod(number, len(self._learnt))
        order = np.random.default_rng((self._seed, 25, turn)).permutation(len(self._learnt))
        triple, rng = self._learnt[order[at]], np.random.default_rng((self._seed, 26, number))
        try:
            return read_triple(triple).cut(rng, self._size).flipped(rng).disturbed(rng, _THEIRS)
        except ValueError as error:
            raise TrainingError(f"{triple.flow}: {error}, which is learnt at a time: take it out") from error


def flow_task(subject: Subject) -> FlowTask:
    """Open what `--data world` or `--data flo:DIR` says. Raises TrainingError."""
    task = FlowTask(subject.manifest, _pairs(subject))
    if isinstance(task.model, FlowNetPyramid) and scale(subject.manifest) != PIXELS:
        raise TrainingError(
            f"{subject.manifest.name} brings images back by units of {PIXELS:g} pixels: set its scale so"
        )
    return task


def _pairs(subject: Subject) -> Pairs:
    kind, _, where = subject.data.partition(":")
    if kind == "flo":
        return FoundPairs(Path(where).expanduser(), subject.seed)
    if kind != "world":
        raise TrainingError(f"flow is not learnt from {subject.data!r}: say world, or flo:DIR")
    return MadePairs(subject.seed)


def _network(manifest: Manifest) -> FlowNet:
    """Build a network with the weights that its authors begin with, but for the first, where it sees both images."""
    network = build_network(manifest.architecture or "", manifest.variant, 0)
    assert isinstance(network, FlowNet), "by the table of tasks"  # noqa: S101 - for the type checker
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, _SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if isinstance(network, FlowNetS):
        see_motion(cast("Tensor", network.conv1[0].weight), _STRENGTH)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # torch's stubs lack it
