"""Int8 for real: small networks made here, and YOLOX-nano on a street where it is at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import av
import numpy as np
import onnx
import onnxruntime as ort
import openvino as ov
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.build.base import Recipe, silent
from engines.build.calibrate import calibration_digest, detection_bound, drift, place
from engines.build.fold import fold
from engines.build.quantise import Bound, quantise
from engines.decoders import DetectOptions
from engines.decoders.candidates import DecodeCandidates
from engines.errors import BuildError
from engines.geometry import letterbox
from engines.manifest import find
from engines.metrics.coco import mean_ap
from engines.preprocess import Preprocess, PreprocessSpec
from engines.runtimes.fake import FakeRuntime
from engines.sampling import spread
from engines.types import Array, Detections, Float, Image, PixelInput, TensorSpec

SHARED = Path(__file__).resolve().parents[2] / "../shared"
NANO, STREET = SHARED / "models/yolox_nano.onnx", SHARED / "media/street.mp4"
SIZE = 16
ANY = Bound(most=1e9)


def images(count: int = 6) -> list[Image]:
    return list(np.random.default_rng(7).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8))


def feed(image: Image) -> Float:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


class Net:
    """A network under construction; every layer's weights are its own."""

    def __init__(self, opset: int = 17) -> None:
        self.opset, self.rng = opset, np.random.default_rng(3)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def conv(self, source: str, name: str, shape: tuple[int, int, int], group: int = 1) -> str:
        """Add a convolution of (out, in, kernel size) with a bias."""
        out, into, kernel = shape
        weights = self.rng.normal(size=(out, into // group, kernel, kernel)) / (kernel * np.sqrt(into / group))
        self.store(f"{name}/w", weights)
        self.store(f"{name}/b", self.rng.normal(size=out))
        names = [source, f"{name}/w", f"{name}/b"]
        self.nodes.append(helper.make_node("Conv", names, [name], name=name, pads=[kernel // 2] * 4, group=group))
        return name

    def silu(self, source: str) -> str:
        self.nodes.append(helper.make_node("Sigmoid", [source], [f"{source}/gate"]))
        self.nodes.append(helper.make_node("Mul", [source, f"{source}/gate"], [f"{source}/silu"]))
        return f"{source}/silu"

    def scaled(self, source: str, factors: Array) -> str:
        self.store(f"{source}/factors", factors.reshape(1, -1, 1, 1))
        self.nodes.append(helper.make_node("Mul", [source, f"{source}/factors"], [f"{source}/scaled"]))
        return f"{source}/scaled"

    def joined(self, *sources: str) -> str:
        self.nodes.append(helper.make_node("Concat", list(sources), ["joined"], axis=1))
        return "joined"

    def store(self, name: str, values: Array) -> None:
        self.stored.append(numpy_helper.from_array(values.astype(np.float32), name))

    def model(self, *outputs: str) -> onnx.ModelProto:
        given = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])]
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, SIZE, SIZE]) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", given, results, self.stored)
        ir_version = 8 if self.opset >= 13 else 6
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir_version)


def plain(opset: int = 17) -> onnx.ModelProto:
    """Stem, depthwise and dense layers with SiLU, and two that read one tensor, joined."""
    net = Net(opset)
    x = net.silu(net.conv("images", "stem", (8, 3, 3)))
    x = net.silu(net.conv(x, "depthwise", (8, 8, 3), group=8))
    left, right = net.silu(net.conv(x, "left", (8, 8, 1))), net.silu(net.conv(x, "right", (8, 8, 1)))
    return net.model(net.conv(net.joined(left, right), "last", (4, 16, 1)))


def run(model: onnx.ModelProto, image: Image) -> Float:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": feed(image)})[0])


def relative(found: Float, true: Float) -> float:
    return float(np.linalg.norm(found - true) / np.linalg.norm(true - true.mean()))


def kernels(model: onnx.ModelProto) -> dict[str, str]:
    """Tell where each convolution's weights come from."""
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    return {n.name: made.get(n.input[1], "stored") for n in model.graph.node if n.op_type == "Conv"}


def constant(model: onnx.ModelProto, name: str) -> Array:
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)


def test_all_is_symmetric_int8_inside_and_float_outside() -> None:
    model = quantise(plain(), images(), PixelInput(), silent, ANY)
    onnx.checker.check_model(model, full_check=True)
    assert set(kernels(model).values()) == {"DequantizeLinear"}
    for node in model.graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            zero = constant(model, node.input[2])
            assert zero.dtype == np.int8
            assert not zero.any()
    edges = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    assert edges == [TensorProto.FLOAT] * 2


def test_weights_have_a_scale_a_channel_and_activations_one() -> None:
    model = quantise(plain(), images(), PixelInput(), silent, ANY)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert constant(model, node.input[1]).shape == ()
        if node.op_type == "DequantizeLinear" and node.attribute:
            weights, scales = constant(model, node.input[0]), constant(model, node.input[1])
            assert scales.shape == weights.shape[:1]


def test_it_computes_nearly_the_same() -> None:
    body = plain()
    model = quantise(body, images(), PixelInput(), silent, ANY)
    for image in images():
        assert relative(run(model, image), run(body, image)) < 0.03


def test_channels_of_very_different_range_keep_their_precision() -> None:
    net = Net()
    factors = np.geomspace(1e-1, 1e2, 8)
    x = net.scaled(net.silu(net.conv("images", "stem", (8, 3, 3))), factors)
    body = net.model(net.conv(x, "depthwise", (8, 8, 3), group=8))
    model = quantise(body, images(), PixelInput(), silent, ANY)
    true, found = run(body, images()[0])[0], run(model, images()[0])[0]
    for channel in range(8):
        assert relative(found[channel], true[channel]) < 0.05, channel


def test_tensors_read_twice_are_quantised_once() -> None:
    model = quantise(plain(), images(), PixelInput(), silent, ANY)
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph.node) == 4  # for five convolutions


def test_the_body_itself_is_left_as_it_was() -> None:
    body = plain()
    before = body.SerializeToString()
    quantise(body, images(), PixelInput(), silent, ANY)
    assert body.SerializeToString() == before


def test_an_old_opset_is_raised() -> None:
    body = plain(opset=11)
    model = quantise(body, images(), PixelInput(), silent, ANY)
    assert model.opset_import[0].version >= 13
    assert relative(run(model, images()[0]), run(body, images()[0])) < 0.03


def listed(model: onnx.ModelProto) -> onnx.ModelProto:
    """List the weights among the inputs, as files before IR version 4 do."""
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


@pytest.mark.parametrize("opset", [11, 13])
def test_weights_that_are_listed_as_inputs_are_not_asked_for(opset: int) -> None:
    int8 = quantise(listed(plain(opset)), images(), PixelInput(), silent, ANY)
    assert [value.name for value in int8.graph.input] == ["images"]
    assert relative(run(int8, images()[0]), run(plain(opset), images()[0])) < 0.03


def test_a_bias_without_a_name_is_no_bias() -> None:
    body = plain()
    for node in body.graph.node:
        if node.op_type == "Conv":
            node.input[2] = ""
    model = quantise(body, images(), PixelInput(), silent, ANY)
    assert set(kernels(model).values()) == {"DequantizeLinear"}
    assert relative(run(model, images()[0]), run(body, images()[0])) < 0.03


def test_pixels_are_fed_as_the_network_wants_them() -> None:
    """Mean and scale far from 0..255 would show as ranges that clip everything."""
    pixels = PixelInput("bgr", (100.0, 120.0, 140.0), (0.5, 0.25, 0.125))
    body = plain()
    model = quantise(body, images(), pixels, silent, ANY)
    wanted = (images()[0][..., ::-1] - np.array(pixels.mean)) / np.array(pixels.std)
    session, truth = (ort.InferenceSession(m.SerializeToString()) for m in (model, body))
    inputs = {"images": np.ascontiguousarray(wanted.transpose(2, 0, 1)[None], np.float32)}
    assert relative(session.run(None, inputs)[0], truth.run(None, inputs)[0]) < 0.03


def test_what_costs_too_much_is_left_alone() -> None:
    body = plain()

    def loss(_true: object, found: Sequence[Mapping[str, Array]]) -> float:
        """Allow nothing where the stem is not what it was."""
        return 0.0 if np.allclose(found[0]["stem"], run(exposed, images()[0])) else 1.0

    exposed = onnx.ModelProto.FromString(body.SerializeToString())
    del exposed.graph.output[:]
    exposed.graph.output.append(helper.make_tensor_value_info("stem", TensorProto.FLOAT, [1, 8, SIZE, SIZE]))
    body.graph.output.append(exposed.graph.output[0])
    made = kernels(quantise(body, images(), PixelInput(), silent, Bound(loss, 0.5)))
    assert made.pop("stem") == "stored"
    assert set(made.values()) == {"DequantizeLinear"}


def test_a_bound_that_nothing_keeps_is_an_error() -> None:
    with pytest.raises(BuildError, match=r"no convolution can be int8 with a loss within 1\.00%"):
        quantise(plain(), images(), PixelInput(), silent, Bound(lambda true, found: 1.0, most=0.01))


def test_it_says_what_it_does() -> None:
    told: list[str] = []
    quantise(plain(), images(), PixelInput(), told.append, ANY)
    assert told[0] == "calibrating 5 convolutions on 6 images"
    assert told[-1].startswith("int8 with 5 of 5 convolutions loses ")


def test_no_images_is_an_error() -> None:
    with pytest.raises(BuildError, match="needs images to calibrate on"):
        quantise(plain(), [], PixelInput(), silent)


def test_no_convolution_is_an_error() -> None:
    net = Net()
    with pytest.raises(BuildError, match="no 2-D convolution"):
        quantise(net.model(net.silu("images")), images(), PixelInput(), silent)


def test_values_that_are_not_finite_are_an_error() -> None:
    net = Net()
    broken = net.model(net.conv(net.scaled("images", np.full(3, np.inf)), "last", (4, 3, 1)))
    with pytest.raises(BuildError, match="not finite at 'images/scaled'"):
        quantise(broken, images(), PixelInput(), silent)


def test_openvino_agrees_on_what_a_concat_gives(tmp_path: Path) -> None:
    """It rounds such values to whole numbers where a quantiser follows the Concat at once."""
    model = quantise(plain(), images(), PixelInput(), silent, ANY)
    for image in images():
        assert relative(run_openvino(model, image, tmp_path), run(model, image)) < 0.01


def test_tensorrt_rtx_builds_it_with_no_gpu() -> None:
    assert build_rtx(quantise(plain(), images(), PixelInput(), silent, ANY)) > 0


def test_chosen_frames_are_spread_evenly_and_few() -> None:
    numbered = [np.full((1, 1, 3), i, np.uint8) for i in range(200)]
    chosen = [int(image[0, 0, 0]) for image in spread(iter(numbered), 5)]
    assert chosen[0] == 0
    assert chosen[-1] >= 160
    assert len(set(np.diff(chosen) // 8)) <= 2
    assert [int(image[0, 0, 0]) for image in spread(numbered[:3], 5)] == [0, 1, 2]
    assert spread([], 5) == []
    with pytest.raises(ValueError, match="0 are none"):
        spread(numbered, 0)


def test_the_digest_knows_content_order_and_size() -> None:
    first, second = images(2)
    same = calibration_digest([first, second])
    assert calibration_digest(iter([first.copy(), second])) == same
    others = [[second, first], [first], [first, second, second], [first.reshape(8, 32, 3), second]]
    assert len({same, *map(calibration_digest, others)}) == 5


@pytest.mark.parametrize("source", [(48, 100, 3), (900, 300, 3)])
@pytest.mark.parametrize("how", [{}, {"align": "center", "pad": 7}, {"resize": "stretch"}])
def test_images_are_placed_as_when_serving(source: tuple[int, int, int], how: dict[str, object]) -> None:
    manifest = find("yolox-nano")
    manifest = manifest.model_copy(update={"preprocess": manifest.preprocess.model_copy(update=how)})
    image = np.random.default_rng(0).integers(0, 256, source, np.uint8)
    frames = TensorSpec("frames", np.dtype(np.uint8), (None, *manifest.preprocess.size, 3))
    told = manifest.preprocess
    spec = PreprocessSpec(told.size, told.resize, told.align, told.pad)
    feeds, _ = Preprocess(spec, FakeRuntime(dict, (frames,)))([image])
    (placed,) = place(manifest, [image])
    np.testing.assert_array_equal(placed, feeds["frames"][0])


def test_drift_is_how_far_objects_moved_and_faded() -> None:
    def one(x: float, confidence: float, label: int = 0) -> Detections:
        box = np.array([[x, 0, x + 10, 10]], np.float32)
        return Detections(box, np.array([label], np.int32), np.array([confidence], np.float32))

    assert drift([one(0, 0.8)], [one(0, 0.8)]) == 0
    assert drift([one(0, 0.8)], [one(0, 0.6)]) == pytest.approx(0.2)
    assert drift([one(0, 0.8)], [one(5, 0.8)]) == pytest.approx(1 - 1 / 3)
    assert drift([one(0, 0.8)], [one(0, 0.8, label=1)]) == pytest.approx(1.8)
    assert drift([one(0, 0.8)], [Detections.empty()]) == pytest.approx(1.8)
    assert drift([one(0, 0.8), Detections.empty()], [one(0, 0.8), one(0, 0.9)]) == 0
    assert drift([], []) == 0


Served = Callable[[Image], list[Array]]  # placed pixels -> boxes, scores, classes

EVERY = 5  # of so many frames one is calibrated on, and the others are looked at
needs_shared = pytest.mark.skipif(
    not (NANO.is_file() and STREET.is_file()), reason="needs shared/ beside the checkout: its model and its clip"
)


@pytest.fixture(scope="module")
def frames() -> list[Image]:
    with av.open(str(STREET)) as container:
        return spread((np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in container.decode(video=0)), 50)


@pytest.fixture(scope="module")
def nano_int8(frames: list[Image]) -> onnx.ModelProto:
    manifest = find("yolox-nano")
    placed = place(manifest, frames[::EVERY])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("engines.build.quantise._FEW", 2)  # most of the time goes into the order
        return quantise(onnx.load(NANO), placed, PixelInput("bgr"), print, detection_bound(manifest))


@needs_shared
def test_yolox_nano_loses_less_than_two_points(frames: list[Image], nano_int8: onnx.ModelProto) -> None:
    """Against what it finds in fp32, COCO's way; of classes that it finds often, or one object would decide."""
    truth = found(in_onnxruntime(served(onnx.load(NANO))), frames, 0.3)
    common = np.flatnonzero(np.bincount(np.concatenate([each.class_id for each in truth])) >= len(truth) // 2)
    assert len(common) >= 3  # people, cars, trucks
    int8 = found(in_onnxruntime(served(nano_int8)), frames, 0.05)
    pairs = ([each[np.isin(each.class_id, common)] for each in of] for of in (truth, int8))
    assert mean_ap(*pairs).ap > 0.98


@needs_shared
def test_much_of_yolox_nano_is_int8(nano_int8: onnx.ModelProto) -> None:
    made = list(kernels(nano_int8).values())
    assert made.count("DequantizeLinear") > len(made) / 3


@needs_shared
def test_yolox_nano_keeps_its_scores_in_openvino(
    frames: list[Image], nano_int8: onnx.ModelProto, tmp_path: Path
) -> None:
    truth = found(in_onnxruntime(served(onnx.load(NANO))), frames[:20], 0.3)
    int8 = found(in_openvino(served(nano_int8), tmp_path), frames[:20], 0.05)
    assert drift(truth, int8) < 0.03
    for true, other in zip(truth, int8, strict=True):
        assert other.confidence[0] == pytest.approx(true.confidence[0], abs=0.05)


@needs_shared
def test_tensorrt_rtx_builds_what_yolox_nano_serves(nano_int8: onnx.ModelProto) -> None:
    assert build_rtx(served(nano_int8)) > 500_000


def served(body: onnx.ModelProto) -> onnx.ModelProto:
    return fold(body, find("yolox-nano"), Recipe())


def found(serve: Served, frames: list[Image], confidence: float) -> list[Detections]:
    """Detect on the frames that were not calibrated on."""
    manifest, every = find("yolox-nano"), list[Detections]()
    decode = DecodeCandidates(len(manifest.labels), DetectOptions(confidence))
    for frame in (frame for i, frame in enumerate(frames) if i % EVERY):
        (placed,) = place(manifest, [frame])
        outputs = dict(zip(("boxes", "scores", "classes"), serve(placed[None]), strict=True))
        size, align = manifest.preprocess.size, manifest.preprocess.align
        every += decode(outputs, [letterbox((frame.shape[0], frame.shape[1]), size, align)])
    return every


def in_onnxruntime(model: onnx.ModelProto) -> Served:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda frame: list(session.run(["boxes", "scores", "classes"], {"frames": frame}))


def in_openvino(model: onnx.ModelProto, folder: Path) -> Served:
    compiled = compiled_openvino(model, folder)
    return lambda frame: [compiled([frame])[name].copy() for name in ("boxes", "scores", "classes")]


def compiled_openvino(model: onnx.ModelProto, folder: Path) -> ov.CompiledModel:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def run_openvino(model: onnx.ModelProto, image: Image, folder: Path) -> Float:
    return np.asarray(compiled_openvino(model, folder)([feed(image)])[0])


def build_rtx(model: onnx.ModelProto) -> int:
    """Build an engine for any GPU since Ampere, strongly typed; returns its size in bytes."""
    trt = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'streamer[tensorrt-rtx]'")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model.SerializeToString()), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    engine = builder.build_serialized_network(network, builder.create_builder_config())
    return 0 if engine is None else int(engine.nbytes)
