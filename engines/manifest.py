"""Model manifests: what a network is, how it is fed and read, and where its weights come from.

A manifest is a YAML file. Those that come with us lie in ``config/models``; a user's own may lie anywhere, and then its
labels and weights may lie beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

import engines
from engines.errors import ManifestError
from engines.outputs import Decoder, FusionDecoder, Part, Share, expand
from engines.yamlsource import Document, YamlFault, explain, load, suggest

Task = Literal["detect", "segment", "flow", "recognise"]
# Whole, or its first digits: torchvision publishes eight, in the name of each file.
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")]
Level = Annotated[int, Field(ge=0, le=255)]
Triple = tuple[float, float, float]


class Preprocess(Part):
    """How pixels become the network's input: placed by *resize* and *align*, then (value - mean) / std."""

    size: tuple[PositiveInt, PositiveInt]  # height, width
    resize: Literal["letterbox", "stretch"] = "letterbox"
    align: Literal["top-left", "center"] = "center"  # where a letterboxed image lies
    pad: Level | tuple[Level, Level, Level] = 114  # of the bytes around a letterboxed image; three are R, G, B
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: Triple = (0.0, 0.0, 0.0)
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 1.0, 1.0)


class ClipInput(Part):
    """What a network that recognises actions looks at: *length* samples, *fps* of them in a second.

    They are fed as a *volume* (N, C, T, H, W), or as a *stack* (N, T x C, H, W), sample after sample. Flow is in
    pixels; what is longer than *limit* counts as this long, and as 1.
    """

    length: PositiveInt
    fps: PositiveFloat
    input: Literal["rgb", "flow"] = "rgb"
    form: Literal["volume", "stack"] = "volume"
    limit: PositiveFloat = 20.0


class Defaults(Part):
    """Thresholds for whoever says nothing else."""

    confidence: Share = 0.3
    iou: Share = 0.45


class WeightsFile(Part):
    """One file of weights, and what it must be."""

    file: Annotated[str, Field(min_length=1)]
    url: Annotated[str, Field(pattern="^https?://")] | None = None
    sha256: Sha256 | None = None
    also: tuple[Sha256, ...] = ()  # of files that somebody else exported from the same weights
    page: Annotated[str, Field(pattern="^https?://")] | None = None  # where people get it, for want of a url
    size: NonNegativeInt | None = None  # bytes
    licence: str | None = None

    @model_validator(mode="after")
    def _url_needs_checksum(self) -> WeightsFile:
        if self.url and not self.sha256:
            raise ValueError("has a url but no sha256: say what the downloaded bytes must be")
        return self


class Checkpoint(WeightsFile):
    """A state dict for the manifest's architecture, as the public implementation saves it."""

    key: str | None = None  # where in the file the state dict is: "model"


class Weights(Part):
    """The weights, by format; where there are both, the ONNX file is taken, for it needs no torch.

    There are none for a model that is but others together.
    """

    onnx: WeightsFile | None = None
    checkpoint: Checkpoint | None = None

    @property
    def absent(self) -> bool:
        return self.onnx is None and self.checkpoint is None

    @property
    def file(self) -> WeightsFile:
        """The one that is taken. Raises ManifestError for a model that is but others together."""
        best = self.onnx or self.checkpoint
        if best is None:
            raise ManifestError("the model has no weights of its own: name one of its streams instead")
        return best


class Manifest(Part):
    """All that is known about a model before its weights are opened."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    task: Task
    architecture: str | None = None
    variant: str | None = None
    labels: tuple[str, ...] = ()  # in the file also the name or the path of a list; empty only for flow
    preprocess: Preprocess
    decoder: Annotated[Decoder, BeforeValidator(expand)]
    clip: ClipInput | None = None  # for one network that recognises actions
    defaults: Defaults = Defaults()
    batch: PositiveInt | None = None  # the most images worth taking at a time, where memory says so
    weights: Weights = Weights()
    _folder: Path | None = None

    @property
    def folder(self) -> Path | None:
        """Where the manifest itself lies, and so what its relative paths start from; None for one made in code."""
        return self._folder

    @property
    def counts_pixels(self) -> bool:
        """Tell whether there are places within the network, of which halves hold too few."""
        return self.decoder.kind == "rcnn" or (self.decoder.kind == "flow" and self.decoder.warps)

    @model_validator(mode="after")
    def _classes_need_labels(self) -> Manifest:
        if self.task != "flow" and not self.labels:
            raise ValueError(f"a model that can {self.task} needs labels")
        return self

    @field_validator("weights")
    @classmethod
    def _weights_of_a_network(cls, weights: Weights, info: ValidationInfo) -> Weights:
        """Check weights where they are told; what has no decoder has a fault of its own."""
        decoder = info.data.get("decoder")
        fused = isinstance(decoder, FusionDecoder)
        if fused and not weights.absent:
            raise ValueError("the model is but others together, and needs none: leave it out")
        if decoder is not None and not fused and weights.absent:
            raise ValueError("names neither onnx nor checkpoint: one of them is needed")
        return weights

    @model_validator(mode="after")
    def _a_network_needs_weights(self) -> Manifest:
        if self.weights.absent and not isinstance(self.decoder, FusionDecoder):
            raise ValueError("needs weights: say under 'weights' which onnx or checkpoint file")
        if (self.decoder.kind == "actions") != (self.clip is not None):
            raise ValueError("needs 'clip' with decoder actions, which says what its network looks at, and only then")
        return self


def config_dir() -> Path:
    """Find the configuration that comes with us: inside an installed package, or beside it in a checkout."""
    package = Path(engines.__file__).parent
    installed = package / "_config"  # asked first: a stranger's folder "config" may lie beside an installed package
    return installed if installed.is_dir() else package.parent / "config"


def names() -> list[str]:
    """List the manifests that come with us."""
    return sorted(path.stem for path in (config_dir() / "models").glob("*.yaml"))


def find(name_or_path: str | Path) -> Manifest:
    """Read the manifest that comes with us under this name, or the user's own at this path. Raise ManifestError."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith((".yaml", ".yml")):
        return read(Path(text).expanduser())
    known = names()
    if text not in known:
        raise ManifestError(
            f"there is no model {text!r}{suggest(text, known)}: name one, or give the path of a manifest"
        )
    return read(config_dir() / "models" / f"{text}.yaml")


def find_streams(manifest: Manifest) -> list[Manifest]:
    """Find the manifests of the networks that a model consists of: mostly itself. Raises ManifestError.

    Streams are named as everywhere; paths start where the manifest lies. They must look at clips of one size and one
    number of samples a second, and know the same classes; how many samples is up to each.
    """
    if not isinstance(manifest.decoder, FusionDecoder):
        return [manifest]
    folder = manifest.folder or Path()
    names = [stream.model for stream in manifest.decoder.streams]
    parts = [find(folder / name if name.endswith((".yaml", ".yml")) else name) for name in names]
    faults = [
        f"{manifest.name}: its stream {part.name} {fault}" for part in parts for fault in _misfits(part, manifest)
    ]
    rates = {part.clip.fps for part in parts if part.clip is not None}
    if len(rates) > 1:
        faults.append(
            f"{manifest.name}: its streams want {' and '.join(f'{fps:g}' for fps in sorted(rates))} samples "
            "a second: take streams that go together"
        )
    if faults:
        raise ManifestError("\n".join(faults))
    return parts


def _misfits(stream: Manifest, fused: Manifest) -> Iterator[str]:
    if stream.clip is None:
        yield "is no network that looks at clips: name one that recognises actions"
    if stream.labels != fused.labels:
        yield "knows other classes, or in another order: take streams that go together"
    if stream.preprocess.size != fused.preprocess.size:
        found, wanted = ("x".join(map(str, each.preprocess.size)) for each in (stream, fused))
        yield f"looks at clips of {found}, not {wanted}: take streams that go together"


def read(path: Path) -> Manifest:
    """Read and check one manifest file. Raise ManifestError: one line a fault, each with file and line."""
    try:
        document = load(_text(path), str(path))
    except YamlFault as error:
        raise ManifestError(str(error)) from None
    data = document.data
    if isinstance(data, dict) and isinstance(data.get("labels"), str):
        data = {**data, "labels": _read_labels(data["labels"], path.parent, document)}
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        raise ManifestError("\n".join(explain(error, document, Manifest))) from None
    manifest._folder = path.parent
    return manifest


def _read_labels(name: str, folder: Path, document: Document) -> list[str]:
    """Read one label a line, from a list that comes with us or a file named relative to the manifest."""
    at = document.at(("labels",))
    ours = config_dir() / "labels"
    if "/" in name or name.endswith(".txt"):
        path = folder / Path(name).expanduser()
    else:
        path = ours / f"{name}.txt"
        if not path.is_file():
            hint = suggest(name, (p.stem for p in ours.glob("*.txt")))
            raise ManifestError(f"{at}there is no list {name!r}{hint}: name one, or give a path that ends in .txt")
    labels = [line.strip() for line in _text(path, at).rstrip().splitlines()]
    if "" in labels:  # skipping it would shift every class after it
        raise ManifestError(f"{at}{path}:{labels.index('') + 1}: is empty, but every line is the label of one class")
    return labels


def _text(path: Path, at: str = "") -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows puts a mark before the first character
    except UnicodeDecodeError:
        raise ManifestError(f"{at}{path} is not text: it must be UTF-8") from None
    except OSError as error:
        raise ManifestError(f"{at}{path} cannot be read: {error.strerror}") from None
