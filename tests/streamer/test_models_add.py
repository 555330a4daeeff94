"""`streamer models add`, as a stranger with a file of their own meets it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import bodies
import numpy as np
import onnx
import pytest
import rcnns
from bodies import Body
from onnx import numpy_helper
from rcnns import Rcnn
from still import still

from engines.decoders import DetectOptions
from engines.load import open_detector
from engines.manifest import Manifest, read
from engines.model import Model
from engines.runtimes.base import RuntimeOptions
from engines.types import Detections, Image
from engines.zoo import locate
from streamer.cli import main

NAMES = {"names": "{0: 'yes', 1: 'dog: big', 2: \"d'or #1\"}", "task": "detect", "imgsz": "[64, 96]"}


class Ended:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out = code, out
        self.said = " ".join(err.split())
        self.faults = [line for line in err.splitlines() if line.startswith("streamer: ")]


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Ended:
        code = main(["models", "add", *map(str, words)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert "internal error" not in err
        return Ended(code, out, err)

    return call


def save(body: Body, name: str = "My Model.onnx") -> Path:
    onnx.save(bodies.make(body), name)
    return Path(name)


def labels(*lines: str) -> str:
    Path("labels.txt").write_text("\n".join(lines))
    return "labels.txt"


def refused(ended: Ended, *words: str) -> None:
    """One sentence, exit code 2, and no manifest."""
    assert ended.code == 2
    assert len(ended.faults) == 1
    assert not [word for word in words if word not in ended.faults[0]], ended.faults
    assert not list(Path.cwd().glob("*.yaml"))
    assert not list(Path.cwd().glob(".*"))


@pytest.mark.parametrize("kind", ["yolov5", "yolov8", "yolov10"])
def test_a_file_that_names_its_classes_is_usable_at_once(
    kind: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = run(save(Body(kind, metadata=NAMES)))
    assert (ended.code, ended.out) == (0, "my-model.yaml\n")
    assert "best score" in ended.said
    manifest = read(Path("my-model.yaml"))
    assert manifest.labels == ("yes", "dog: big", "d'or #1")
    assert manifest.weights.file.size == Path("My Model.onnx").stat().st_size
    assert main(["models", "show", "./my-model.yaml"]) == 0
    assert "My Model.onnx" in capsys.readouterr().out


def save_rcnn(kind: Rcnn, name: str = "rcnn.onnx") -> Path:
    onnx.save(rcnns.make(kind), name)
    return Path(name)


def test_a_segmenter_is_usable_at_once(run: Run) -> None:
    ended = run(save(Body("yolov8", extra=("masks",), metadata={**NAMES, "task": "segment"})))
    assert (ended.code, ended.out) == (0, "my-model.yaml\n")
    manifest = read(Path("my-model.yaml"))
    assert (manifest.task, manifest.decoder.kind) == ("segment", "yolov8-seg")
    (found,) = detector(manifest, confidence=0)([np.full((48, 96, 3), 99, np.uint8)])
    assert found.masks is not None
    assert len(found.masks) == len(found) > 0


@pytest.mark.parametrize("kind", [Rcnn(), Rcnn(masks="box"), Rcnn(batch=(1,))], ids=str)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_rcnn_of_torchvisions_finds_objects_with_masks(kind: Rcnn, runtime: str, run: Run) -> None:
    ended = run(save_rcnn(kind), "--labels", labels(*rcnns.CLASSES), "--decoder", "torchvision-maskrcnn")
    assert ended.code == 0
    manifest = read(Path("rcnn.yaml"))
    assert (manifest.task, manifest.preprocess.size) == ("segment", (96, 128))
    image = rcnns.scene({(0, 0): (0, 200), (2, 3): (2, 220)}).repeat(2, 0).repeat(2, 1)
    one, none, two = detector(manifest, runtime)([image, np.zeros_like(image), image])
    assert ([manifest.labels[i] for i in one.class_id], len(none)) == (["blue", "red"], 0)
    np.testing.assert_allclose(one.xyxy[1], [0, 0, 64, 64], atol=1e-3)
    assert one.masks is not None
    assert two.masks is not None
    np.testing.assert_array_equal(one.masks.probs, two.masks.probs)
    np.testing.assert_allclose(one.masks.probs[1], rcnns.patterns()[0], atol=0.05)


def test_a_network_that_finds_nothing_on_noise_is_no_fault(run: Run) -> None:
    ended = run(save_rcnn(Rcnn(masks="none", least=0.9)), "--labels", labels(*rcnns.CLASSES))
    assert ended.code == 0
    assert read(Path("rcnn.yaml")).task == "detect"
    assert "on noise and grey it finds nothing" in ended.said


def test_masks_that_are_no_probabilities(run: Run) -> None:
    ended = run(save_rcnn(Rcnn(masks="box", least=0.4, logits=True)), "--labels", labels(*rcnns.CLASSES))
    refused(ended, "gives masks from", "sigmoid")


def test_an_ssd_is_told_by_its_values(run: Run) -> None:
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(0, 1, (3000, 2, 2)), 1).reshape(-1, 4)
    onnx.save(still({"scores": rng.dirichlet([5, 1, 1], 3000), "boxes": boxes}, (300, 300)), "ssd.onnx")
    assert run("ssd.onnx", "--labels", labels("nothing", "cat", "dog")).code == 0
    decoder = read(Path("ssd.yaml")).decoder
    assert decoder.model_dump(include={"kind", "scores", "boxes"}) == {
        "kind": "ssd",
        "scores": "probabilities",
        "boxes": "shares",
    }


def detector(manifest: Manifest, runtime: str = "onnxruntime", confidence: float = 0.3) -> Model[Image, Detections]:
    weights = locate(manifest)
    return open_detector(manifest, weights, DetectOptions(confidence), (runtime,), RuntimeOptions("fp32", max_batch=2))


def test_everything_can_be_said(run: Run) -> None:
    path = save(Body("yolox", any_size=True, batch="batch"))
    ended = run(path, "--decoder", "yolox", "--labels", labels("a", "b", "c"), "--size", "96x64", "--name", "eyes")
    assert (ended.code, ended.out) == (0, "eyes.yaml\n")
    manifest = read(Path("eyes.yaml"))
    assert (manifest.name, manifest.preprocess.size, manifest.decoder.kind) == ("eyes", (96, 64), "yolox")
    assert 'labels: "./labels.txt"' in Path("eyes.yaml").read_text()


def test_a_manifest_elsewhere_finds_its_weights_and_labels(run: Run) -> None:
    path = save(Body("yolov8"))
    ended = run(path, "--labels", labels("a", "b", "c"), "--out", "models/mine")
    manifest = read(Path(ended.out.strip()))
    assert manifest.folder == Path("models/mine")
    assert (manifest.folder / manifest.weights.file.file).samefile(path)


def test_a_known_list(run: Run) -> None:
    assert run(save(Body("yolov8", classes=80)), "--labels", "coco80").code == 0
    assert "labels: coco80\n" in Path("my-model.yaml").read_text()


def test_nothing_is_overwritten_unasked(run: Run) -> None:
    path = save(Body("yolov8", metadata=NAMES))
    run(path)
    Path("my-model.yaml").write_text("mine")
    ended = run(path)
    assert (ended.code, Path("my-model.yaml").read_text()) == (2, "mine")
    assert "--force" in ended.faults[0]
    assert run(path, "--force").code == 0
    assert read(Path("my-model.yaml")).name == "my-model"


def test_a_quantised_network_is_taken_as_it_is(run: Run) -> None:
    model = bodies.make(Body("yolov8", metadata=NAMES))
    for name, value in (("step", np.float32(0.02)), ("zero", np.int8(0))):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    first = model.graph.node[0]
    quantise = onnx.helper.make_node("QuantizeLinear", [first.input[1], "step", "zero"], ["q"])
    model.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["dq"]))
    model.graph.node.insert(0, quantise)
    first.input[1] = "dq"
    onnx.save(model, "int8.onnx")
    assert run("int8.onnx").code == 0
    assert "quantised to int8 already" in Path("int8.yaml").read_text()


def test_scores_without_a_sigmoid_show_at_once(run: Run) -> None:
    ended = run(save(Body("yolov8", metadata=NAMES, logits=True)))
    refused(ended, "must be in 0..1", "sigmoid")


def test_boxes_of_another_decoder_raise_a_doubt(run: Run) -> None:
    ended = run(save(Body("yolox")), "--decoder", "yolov5", "--labels", labels("a", "b", "c"))
    assert ended.code == 0
    assert "other units than pixels" in ended.said


def test_weights_that_are_not_numbers(run: Run) -> None:
    model = bodies.make(Body("yolov8", metadata=NAMES))
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, np.nan, np.float32), tensor.name))
    onnx.save(model, "damaged.onnx")
    refused(run("damaged.onnx"), "no score that is a number")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent.onnx"], ["absent.onnx does not exist"]),
        (["."], [". is not a file"]),
        (["notes.txt"], ["not called .onnx"]),
        (["not.onnx"], ["no ONNX network"]),
        (["good.onnx"], ["--labels, 3 of them"]),
        (["good.onnx", "--labels", "none.txt"], ["neither a file nor a list"]),
        (["good.onnx", "--labels", "coco8"], ["did you mean 'coco80'"]),
        (["good.onnx", "--labels", "coco80"], ["80 labels", "3 classes"]),
        (["good.onnx", "--labels", "empty.txt"], ["empty.txt is empty"]),
        (["good.onnx", "--labels", "gap.txt"], ["gap.txt:2"]),
        (["good.onnx", "--labels", "not.onnx"], ["is not text"]),
        (["good.onnx", "--labels", "."], ["cannot be read"]),
        (["good.onnx", "--labels", "three.txt", "--decoder", "yolov5"], ["but yolov5 gives", "looks like yolov8"]),
        (["good.onnx", "--labels", "three.txt", "--decoder", "ssdd"], ["no decoder 'ssdd'", "did you mean 'ssd'"]),
        (["good.onnx", "--labels", "three.txt", "--size", "wide"], ["write height x width"]),
        (["good.onnx", "--labels", "three.txt", "--size", "640"], ["64x96 alone"]),
        (["good.onnx", "--labels", "three.txt", "--name", "My Eyes"], ["no name for a model"]),
        (["good.onnx", "--labels", "three.txt", "--out", "three.txt"], ["cannot be written", "--out"]),
        (["two.onnx", "--labels", "three.txt"], ["2 inputs (images, im_shape)"]),
        (["bytes.onnx", "--labels", "three.txt"], ["'images', uint8"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(words: list[str], said: list[str], run: Run) -> None:
    save(Body("yolov8"), "good.onnx")
    save(Body("yolov8", extra=("input",)), "two.onnx")
    fed_bytes = bodies.make(Body("yolov8"))
    fed_bytes.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    onnx.save(fed_bytes, "bytes.onnx")
    Path("not.onnx").write_bytes(b"\xff\xd8\xff\xe0 a photograph")
    files = {"notes.txt": "x", "empty.txt": "\n\n", "gap.txt": "a\n\nb", "three.txt": "a\nb\nc"}
    for name, text in files.items():
        Path(name).write_text(text)
    refused(run(*words), *said)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere: run the tests as somebody else")
def test_a_folder_that_takes_no_files(run: Run) -> None:
    path = save(Body("yolov8", metadata=NAMES))
    Path("locked").mkdir(mode=0o500)
    refused(run(path, "--out", "locked"), "cannot be written", "--out")
