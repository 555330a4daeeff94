"""Int8 for convolutions: symmetric QDQ that TensorRT, TensorRT-RTX, OpenVINO and ONNX Runtime all take.

Only what convolutions read is quantised, activations as a whole and weights channel by channel, all with zero point 0;
sums, biases and activation functions stay float, so that SiLU is never squeezed twice. Four things keep the accuracy:

- Channels are *centred* where nothing is padded: x - c, and what c would have given into the bias. SiLU, which hardly
  goes below zero, would else leave half of the symmetric levels unused.
- Channels that differ much in range are *balanced* before they share one scale: x / a, and a into the weights, which
  changes nothing but the rounding (Xiao et al. 2023, SmoothQuant, https://arxiv.org/abs/2211.10438). A depthwise
  convolution suffers most from one scale for all channels; its own weights' scales take in all of a.
- What rounding takes from the mean of a channel goes into the bias (Nagel et al. 2019, https://arxiv.org/abs/1906.04721).
- The convolutions that rounding hurts most are left alone, as few as the measured loss allows.

ONNX Runtime's own `quantize_static` does none of these without another package, and quantises sums and biases too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper, version_converter

from engines.build.base import Tell
from engines.build.shapes import list_only_fed
from engines.errors import BuildError
from engines.types import Array, Float, Image, PixelInput

Outputs: TypeAlias = Mapping[str, Array]
Loss: TypeAlias = Callable[[Sequence[Outputs], Sequence[Outputs]], float]  # of true and found outputs, an image each

_OPSET, _OLDEST = 17, 13  # per-channel QDQ came with 13; what is older is raised to what every runtime reads
_IR_VERSION = 8  # the file format that came with opset 15 to 18
_LEVELS = 127
_MIGRATED = 0.85  # how much of the channels' range goes into dense weights, as an exponent
_NARROWEST = 1e-3  # a channel's range is taken as at least this share of the widest
_FATAL = 4  # log severity: what is worth saying is raised as well
_FEW = 4  # images that tell the convolutions' order
_TWIN = "/twin"
_EDGES = (("lowest", -1), ("highest", 1))


def output_error(true: Sequence[Outputs], found: Sequence[Outputs]) -> float:
    """Tell how much of the outputs is error: its energy over that of the true outputs' own variation."""
    pairs = [(t[name], f[name]) for t, f in zip(true, found, strict=True) for name in t]
    error = sum(float(np.square(t - f, dtype=np.float64).sum()) for t, f in pairs)
    signal = sum(float(t.var(dtype=np.float64)) * t.size for t, _ in pairs)
    return error / signal if signal else error


@dataclass(frozen=True, slots=True)
class Bound:
    """How much worse an int8 network may be, on the images that it is calibrated on."""

    loss: Loss = output_error
    most: float = 0.005


def quantise(
    body: onnx.ModelProto, images: Iterable[Image], pixels: PixelInput, tell: Tell, bound: Bound | None = None
) -> onnx.ModelProto:
    """Make as many of a float32 body's convolutions int8 as *bound* allows; inputs and outputs stay float32.

    *images* are uint8 (H, W, 3) RGB, placed at the network's input size; all of them are held, and the outputs for all
    of them, but of the activations only one image's. Raises BuildError when nothing can be quantised within the bound.
    """
    model = _raised(body)
    groups = _groups(model)
    if not groups:
        raise BuildError("the network has no 2-D convolution with constant weights, so int8 cannot help it: take fp16")
    frames = _Frames(images, pixels)
    if not len(frames):
        raise BuildError("int8 needs images to calibrate on, but there were none: give a video that has some")
    tell(f"calibrating {sum(len(group.convs) for group in groups)} convolutions on {len(frames)} images")
    ranges = _ranges(model, sorted({group.source for group in groups}), frames)
    plans = _unbiased(model, [_plan(group, ranges[group.source]) for group in groups], frames)
    return _search(model, plans, frames, bound or Bound(), tell)


@dataclass(frozen=True, slots=True, eq=False)
class _Conv:
    """A convolution with constant weights."""

    node: onnx.NodeProto
    weights: Float  # (out, in / groups, height, width)
    bias: Float  # (out,)

    @property
    def padded(self) -> bool:
        """Whether it reads zeros around its input: these would be no zeros in a centred one."""
        told = {attribute.name: helper.get_attribute_value(attribute) for attribute in self.node.attribute}
        return any(told.get("pads", ())) or told.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")

    @property
    def output(self) -> str:
        return str(self.node.output[0])


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Convolutions that read one tensor and can share how it is quantised."""

    source: str
    split: int  # the convolutions' attribute "group"
    joined: bool  # the tensor comes from a Concat
    convs: tuple[_Conv, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """How a group is quantised, and what that does to it."""

    group: _Group
    centre: Float  # (in,): what each channel is made less by
    balance: Float  # (in,): what it is then divided by
    scale: float
    shifts: tuple[Float, ...]  # (out,) a convolution: what rounding takes from the mean


class _Frames:
    """The calibration images, made floats one at a time: all of them would take four times the memory."""

    def __init__(self, images: Iterable[Image], pixels: PixelInput) -> None:
        self._images, self._pixels = list(images), pixels

    def __len__(self) -> int:
        return len(self._images)

    def few(self, count: int) -> _Frames:
        """Take some of them, evenly spread."""
        return _Frames(self._images[:: -(-len(self) // count)], self._pixels)

    def through(self, model: onnx.ModelProto, names: Sequence[str]) -> Iterator[dict[str, Array]]:
        """Run the tensors *names* of a model, one image after the other."""
        probe = _copy(model)
        del probe.graph.output[:]
        probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        session = _session(probe)
        entry = session.get_inputs()[0].name
        for image in self._images:
            yield dict(zip(names, session.run(names, {entry: _feed(image, self._pixels)}), strict=True))


def _feed(image: Image, pixels: PixelInput) -> Float:
    """Make an image (H, W, 3) the body's input (1, 3, H, W)."""
    ordered = image if pixels.channels == "rgb" else image[..., ::-1]
    scaled = (ordered.astype(np.float32) - np.array(pixels.mean, np.float32)) / np.array(pixels.std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _raised(body: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a body to an opset that has per-channel QDQ."""
    version = next(opset.version for opset in body.opset_import if opset.domain in ("", "ai.onnx"))
    try:
        model = _copy(body) if version >= _OLDEST else version_converter.convert_version(body, _OPSET)
    except RuntimeError as error:
        raise BuildError(
            f"the network's opset {version} cannot be raised to {_OPSET} for int8 ({error}): export it anew"
        ) from error
    model.ir_version = max(model.ir_version, _IR_VERSION)
    list_only_fed(model)
    return model


def _groups(model: onnx.ModelProto) -> list[_Group]:
    """Find the 2-D convolutions with constant weights, by what they read."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    joined = {node.output[0] for node in model.graph.node if node.op_type == "Concat"}
    found: dict[tuple[str, int], list[_Conv]] = {}
    for node in model.graph.node:
        if node.op_type == "Conv" and (conv := _constant(node, constants)):
            split = next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)
            found.setdefault((node.input[0], split), []).append(conv)
    return [_Group(source, split, source in joined, tuple(convs)) for (source, split), convs in found.items()]


def _constant(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> _Conv | None:
    names = [name for name in node.input[1:] if name]  # a bias that is left out may have an empty one
    if not all(name in constants for name in names):
        return None
    weights, *bias = (numpy_helper.to_array(constants[name]) for name in names)
    if weights.ndim != 4 or weights.dtype != np.float32:
        return None
    return _Conv(node, weights, bias[0] if bias else np.zeros(len(weights), np.float32))


def _ranges(model: onnx.ModelProto, names: Sequence[str], frames: _Frames) -> dict[str, tuple[Float, Float]]:
    """Find the lowest and the highest value of every channel, over all images."""
    probe = _copy(model)
    for name in names:
        probe.graph.node.append(helper.make_node("Neg", [name], [f"{name}/negative"]))
        probe.graph.node.append(helper.make_node("GlobalMaxPool", [f"{name}/negative"], [f"{name}/depth"]))
        probe.graph.node.append(helper.make_node("GlobalMaxPool", [name], [f"{name}/height"]))
    reached = [name + end for name in names for end in ("/depth", "/height")]
    most: dict[str, Float] = {}
    for values in frames.through(probe, reached):
        for name, value in values.items():
            most[name] = np.maximum(most.get(name, np.float32(-np.inf)), value.max((0, 2, 3)))
    if wild := [name for name in reached if not np.isfinite(most[name]).all()]:
        where = wild[0].rpartition("/")[0]
        raise BuildError(f"the network gives values that are not finite at {where!r}: see that its preprocess is right")
    return {name: (-most[f"{name}/depth"], most[f"{name}/height"]) for name in names}


def _plan(group: _Group, limits: tuple[Float, Float]) -> _Plan:
    """Centre and balance the channels, and choose the scale that then holds all of them."""
    low, high = limits
    centre: Float = (low + high) * np.float32(0 if any(conv.padded for conv in group.convs) else 0.5)
    peak = np.maximum(high - centre, centre - low)
    reach = np.max([_reach(conv.weights, group.split) for conv in group.convs], 0)
    depthwise = group.convs[0].weights.shape[1] == 1
    share = 1.0 if depthwise else _MIGRATED
    balance = _floored(peak) ** share / _floored(reach) ** (1 - share)
    balance = (balance / balance.max()).astype(np.float32)
    shifts = tuple(np.zeros_like(conv.bias) for conv in group.convs)
    return _Plan(group, centre, balance, float((peak / balance).max()) / _LEVELS or 1.0, shifts)


def _reach(weights: Float, split: int) -> Float:
    """Find the largest absolute weight that each channel meets."""
    reach: Float = np.abs(weights).reshape(split, -1, *weights.shape[1:]).max((1, 3, 4)).reshape(-1)
    return reach


def _floored(peak: Float) -> Float:
    return np.maximum(peak, (peak.max() or 1.0) * _NARROWEST)


def _unbiased(model: onnx.ModelProto, plans: Sequence[_Plan], frames: _Frames) -> list[_Plan]:
    """Run every convolution beside its quantised twin, on the same true inputs, and see what the twin's mean lacks."""
    probe, lacking = _copy(model), {}
    for plan in plans:
        part = _quantised(plan, _TWIN)
        for conv in plan.group.convs:
            lack = part.node("Sub", [conv.output, conv.output + _TWIN], f"{conv.output}/lack")
            lacking[conv.output] = part.node("GlobalAveragePool", [lack], f"{conv.output}/mean")
        probe.graph.node.extend(part.nodes)
        probe.graph.initializer.extend(part.constants)
    total: dict[str, Float] = {}
    for values in frames.through(probe, list(lacking.values())):
        for name, value in values.items():
            total[name] = total.get(name, np.float32(0)) + value.mean((0, 2, 3))
    share = np.float32(1 / len(frames))
    means = {output: total[name] * share for output, name in lacking.items()}
    return [replace(plan, shifts=tuple(means[conv.output] for conv in plan.group.convs)) for plan in plans]


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of a graph."""

    nodes: list[onnx.NodeProto]
    constants: list[onnx.TensorProto]

    def constant(self, name: str, value: Array) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output


def _quantised(plan: _Plan, twin: str = "") -> _Part:
    """Write a group's convolutions as QDQ; *twin* goes behind the names of their outputs."""
    part, group = _Part([], []), plan.group
    at = f"{group.source}/int8_{group.split}"
    read = group.source
    if plan.centre.any():
        read = part.node("Sub", [read, part.constant(f"{at}/centre", _planes(plan.centre))], f"{at}/centred")
    read = part.node(
        "Mul", [read, part.constant(f"{at}/balance", _planes(np.reciprocal(plan.balance)))], f"{at}/balanced"
    )
    if group.joined:
        # OpenVINO (2026.4) draws a quantiser through a Concat and then rounds to whole numbers, unless something is
        # between them; this changes nothing, for the range is symmetric.
        edges = [part.constant(f"{at}/{name}", _scalar(sign * _LEVELS * plan.scale)) for name, sign in _EDGES]
        read = part.node("Clip", [read, *edges], f"{at}/clipped")
    steps = [part.constant(f"{at}/scale", _scalar(plan.scale)), part.constant(f"{at}/zero", np.zeros((), np.int8))]
    read = part.node("QuantizeLinear", [read, *steps], f"{at}/quantised")
    read = part.node("DequantizeLinear", [read, *steps], f"{at}/read")
    for conv, shift in zip(group.convs, plan.shifts, strict=True):
        bias = conv.bias + shift + _across(conv.weights, plan.centre, group.split).sum((1, 2, 3))
        _add_conv(part, replace(conv, weights=_across(conv.weights, plan.balance, group.split), bias=bias), read, twin)
    return part


def _planes(channels: Float) -> Float:
    return channels.reshape(1, -1, 1, 1)


def _scalar(value: float) -> Float:
    return np.array(value, np.float32)


def _across(weights: Float, channels: Float, split: int) -> Float:
    """Multiply weights (out, in / split, height, width) with a number for each channel that they read (in,)."""
    grouped = weights.reshape(split, -1, *weights.shape[1:]) * channels.reshape(split, 1, -1, 1, 1)
    product: Float = grouped.reshape(weights.shape).astype(np.float32, copy=False)
    return product


def _add_conv(part: _Part, conv: _Conv, read: str, twin: str) -> None:
    at = f"{conv.output}/int8"
    peak = np.abs(conv.weights).max((1, 2, 3))
    scale = np.where(peak > 0, peak / _LEVELS, 1).astype(np.float32)
    rounded = np.rint(conv.weights / scale[:, None, None, None]).astype(np.int8)
    stored = [
        part.constant(f"{at}/weights", rounded),
        part.constant(f"{at}/scales", scale),
        part.constant(f"{at}/zeros", np.zeros(len(scale), np.int8)),
    ]
    weights = part.node("DequantizeLinear", stored, f"{at}/read", axis=0)
    node = onnx.NodeProto()
    node.CopyFrom(conv.node)
    node.input[:] = [read, weights, part.constant(f"{at}/bias", conv.bias)]
    node.output[:] = [conv.output + twin]
    node.name = f"{node.name or node.output[0]}{twin}"  # exporters may leave nodes nameless
    part.nodes.append(node)


def _search(
    model: onnx.ModelProto, plans: Sequence[_Plan], frames: _Frames, bound: Bound, tell: Tell
) -> onnx.ModelProto:
    """Leave alone as few groups as will do, those that hurt most first; each guess is measured."""
    names = [output.name for output in model.graph.output]
    true = list(frames.through(model, names))

    def fits(alone: int) -> bool:
        loss = bound.loss(true, list(frames.through(_written(model, order[alone:]), names)))
        tell(f"int8 with {_count(order[alone:])} of {_count(plans)} convolutions loses {loss:.2%}")
        return loss <= bound.most

    tell(f"weighing {len(plans)} groups of convolutions, one at a time")
    order = _worst_first(model, plans, frames.few(_FEW), bound)
    alone = bisect_left(range(len(order)), True, key=fits)
    if alone == len(order):
        raise BuildError(f"no convolution can be int8 with a loss within {bound.most:.2%}: take fp16, or allow more")
    return _checked(_written(model, order[alone:]))


def _worst_first(model: onnx.ModelProto, plans: Sequence[_Plan], frames: _Frames, bound: Bound) -> list[_Plan]:
    """Order groups by what each does to the outputs alone."""
    names = [output.name for output in model.graph.output]
    true = list(frames.through(model, names))
    losses = [bound.loss(true, list(frames.through(_written(model, [plan]), names))) for plan in plans]
    return [plans[i] for i in np.argsort(-np.array(losses), kind="stable")]


def _count(plans: Sequence[_Plan]) -> int:
    return sum(len(plan.group.convs) for plan in plans)


def _written(model: onnx.ModelProto, plans: Sequence[_Plan]) -> onnx.ModelProto:
    """Put quantised convolutions into a copy, all of a group where its first one was."""
    parts = {plan.group.convs[0].output: _quantised(plan) for plan in plans}
    gone = {conv.output for plan in plans for conv in plan.group.convs}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.output[0] in parts:
            nodes += parts[node.output[0]].nodes
        elif node.output[0] not in gone:
            nodes.append(node)
    read = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    constants += [tensor for part in parts.values() for tensor in part.constants]
    written = _copy(model)
    del written.graph.node[:], written.graph.initializer[:]
    written.graph.node.extend(nodes)
    written.graph.initializer.extend(constants)
    return written


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BuildError(f"the int8 graph is not valid ONNX ({error}): take fp16, and report this") from error
    return model
