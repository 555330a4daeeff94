"""PyTorch's builder and runtime: what is built is opened, gives what the network gives, and holds no code."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torchnets
from torch.export.passes import move_to_device_pass

from engines.build import open_builder
from engines.build.base import Built, GraphPrecision, Layout, Material, Order, Recipe, silent
from engines.build.stored import completed
from engines.errors import BuildError, ModelError, RuntimeUnavailable
from engines.manifest import Manifest
from engines.networks import INNER
from engines.networks.checkpoint import open_network
from engines.networks.served import serve
from engines.runtimes.base import Precision, Runtime, RuntimeOptions
from engines.runtimes.cores import cores
from engines.runtimes.pytorch import open_pytorch
from engines.types import Image, TensorSpec

SIZE = (64, 96)
OPTIONS = RuntimeOptions(max_batch=4)
F32, I32 = np.dtype(np.float32), np.dtype(np.int32)


def material(manifest: Manifest, weights: Path) -> Material:
    def unused(_recipe: Recipe) -> Any:
        raise AssertionError("pytorch needs no ONNX graph")

    return Material(manifest, weights, unused, unused)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torchnets.checkpoint(tmp_path_factory.mktemp("weights") / "w.pth", torchnets.network())


@pytest.fixture(scope="module")
def build(weights: Path) -> Callable[[GraphPrecision, Layout], Built]:
    made: dict[tuple[str, str], Built] = {}

    def build(precision: GraphPrecision, layout: Layout) -> Built:
        if (precision, layout) not in made:
            order = Order(Recipe(precision, layout))
            made[precision, layout] = open_builder("pytorch").build(
                material(torchnets.manifest(), weights), order, silent
            )
        return made[precision, layout]

    return build


@pytest.fixture(scope="module")
def runtime(build: Callable[[GraphPrecision, Layout], Built], tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    path = tmp_path_factory.mktemp("opened") / "yolox-nano-0123.engine"
    path.write_bytes(build("fp32", "candidates").data)
    return open_pytorch(path, OPTIONS)


@pytest.fixture
def engine(build: Callable[[GraphPrecision, Layout], Built], tmp_path: Path) -> Path:
    path = tmp_path / "yolox-nano-0123.engine"
    path.write_bytes(build("fp32", "candidates").data)
    return path


def frames(rows: int) -> Image:
    return np.random.default_rng(rows).integers(0, 256, (rows, *SIZE, 3), np.uint8)


def test_it_gives_what_the_network_gives_for_any_batch(runtime: Runtime, weights: Path) -> None:
    served = serve(open_network(torchnets.manifest(), weights), torchnets.manifest(), torch.float32)
    for rows in (1, 3, 4):
        with torch.inference_mode():
            want = served(torch.from_numpy(frames(rows)))
        got = runtime.infer({"frames": frames(rows)})
        assert np.allclose(got["scores"], want["scores"], atol=1e-5)
        assert {name: (value.dtype, value.shape) for name, value in got.items()} == {
            "boxes": (F32, (rows, 20, 4)),
            "scores": (F32, (rows, 20)),
            "classes": (I32, (rows, 20)),
        }


def test_raw_outputs_in_half_precision_stay_near(
    build: Callable[[GraphPrecision, Layout], Built], weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "raw.pt2").write_bytes(build("fp16", "raw").data)
    half = open_pytorch(tmp_path / "raw.pt2", OPTIONS)
    assert half.outputs == (TensorSpec("output", F32, (None, 126, 85)),)
    assert half.description.endswith("fp16")
    exact = serve(open_network(torchnets.manifest(), weights), torchnets.manifest(), torch.float32, "raw")
    with torch.inference_mode():
        want = exact(torch.from_numpy(frames(2)))["output"].numpy()
    got = half.infer({"frames": frames(2)})["output"]
    assert np.linalg.norm(got - want) / np.linalg.norm(want) < 2e-2


def test_it_says_what_it_takes_and_gives(runtime: Runtime) -> None:
    assert runtime.inputs == (TensorSpec("frames", np.dtype(np.uint8), (None, *SIZE, 3)),)
    assert [(spec.name, spec.shape) for spec in runtime.outputs] == [
        ("boxes", (None, 20, 4)),
        ("scores", (None, 20)),
        ("classes", (None, 20)),
    ]
    assert runtime.max_batch == 4
    assert f"pytorch {torch.__version__}" in runtime.description


@pytest.mark.skipif(torch.cuda.is_available(), reason="threads are a matter of CPUs, and this machine has a GPU")
def test_threads_are_those_that_were_asked_for(engine: Path, runtime: Runtime) -> None:
    single = open_pytorch(engine, RuntimeOptions(threads=1))
    for each, threads in ((single, 1), (runtime, cores()), (single, 1)):
        each.infer({"frames": frames(1)})
        assert torch.get_num_threads() == threads
        assert f"{threads} thread" in each.description


def test_outputs_hold_until_the_next_call(runtime: Runtime) -> None:
    feed = frames(2)
    got = runtime.infer({"frames": feed})["boxes"]
    held = got.copy()
    feed[:] = 0  # the caller's memory is the caller's again
    assert np.array_equal(got, held)


def test_feeds_may_be_any_view_and_wrong_ones_are_refused(runtime: Runtime) -> None:
    whole = frames(4)
    view = whole[::2]
    view.flags.writeable = False
    assert np.array_equal(
        runtime.infer({"frames": view})["scores"].copy(), runtime.infer({"frames": whole[::2].copy()})["scores"]
    )
    for feed in (frames(5), frames(1)[:, :32], frames(1).astype(np.float32)):
        with pytest.raises(ModelError, match="'frames' takes 1 to 4 rows"):
            runtime.infer({"frames": feed})


def test_closed_twice_it_stays_closed(engine: Path) -> None:
    runtime = open_pytorch(engine, OPTIONS)
    held = runtime.infer({"frames": frames(1)})["boxes"]
    kept = held.copy()
    runtime.close()
    runtime.close()
    with pytest.raises(ModelError, match="closed"):
        runtime.infer({"frames": frames(1)})
    assert np.array_equal(held, kept)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_another_precision_than_its_own_is_refused(engine: Path, precision: Precision) -> None:
    with pytest.raises(RuntimeUnavailable, match=f"\\(fp32\\) into {precision}"):
        open_pytorch(engine, RuntimeOptions(precision))


def test_the_program_can_be_moved_to_another_device(engine: Path) -> None:
    program = move_to_device_pass(torch.export.load(engine.rename(engine.with_suffix(".pt2"))), "meta")
    out = program.module(check_guards=False)(torch.zeros(3, *SIZE, 3, dtype=torch.uint8, device="meta"))
    assert out["boxes"].shape == (3, 20, 4)


def test_torch_compile_is_an_option(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler itself takes minutes on a CPU, and is torch's to test."""
    seen: list[bool] = []

    def compile_nothing(network: torch.nn.Module, *, dynamic: bool) -> torch.nn.Module:
        seen.append(dynamic)
        return network

    monkeypatch.setattr(torch, "compile", compile_nothing)
    open_pytorch(engine, OPTIONS).infer({"frames": frames(1)})
    assert seen == []
    open_pytorch(engine, RuntimeOptions(max_batch=4, torch_compile=True)).infer({"frames": frames(1)})
    assert seen == [True]


# --- what is no engine ---


def rewritten(engine: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """Write an engine anew with its members changed."""
    with zipfile.ZipFile(engine) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(engine, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return engine


def member(members: dict[str, bytes], end: str) -> str:
    return next(name for name in members if name.endswith(end))


def edit(end: str, old: str, new: str) -> Callable[[dict[str, bytes]], object]:
    def change(members: dict[str, bytes]) -> None:
        name = member(members, end)
        text = json.dumps(json.loads(members[name]))
        assert old in text
        members[name] = text.replace(old, new, 1).encode()

    return change


def add(end: str, data: bytes) -> Callable[[dict[str, bytes]], object]:
    def change(members: dict[str, bytes]) -> None:
        root = next(iter(members)).partition("/")[0]
        members[f"{root}/{end}"] = data

    return change


MODEL = "models/model.json"
CODE = {
    "pickled weights": (edit("weights_config.json", '"use_pickle": false', '"use_pickle": true'), "pickled tensors"),
    "pickled samples": (add("data/sample_inputs/model.pt", b"\x80\x02."), "pickled sample inputs"),
    "a library": (add("data/aotinductor/model/it.so", b"\x7fELF"), r"it\.so"),
    "a second model": (add("models/other.json", b"{}"), r"other\.json"),
    "guards": (edit(MODEL, '"guards_code": []', '"guards_code": ["exit()"]'), "guards"),
    "a foreign operator": (edit(MODEL, "torch.ops.aten.silu.default", "torch.os.system"), r"torch\.os\.system"),
    "a size with code": (edit(MODEL, "\"Symbol('", "\"exit() or Symbol('"), r"exit\(\)"),
    "a name with code": (edit(MODEL, '"name": "frames"', '"name": "frames=exit()"'), r"frames=exit\(\)"),
}


@pytest.mark.parametrize(("change", "complaint"), CODE.values(), ids=CODE)
def test_code_in_an_engine_is_refused(
    engine: Path, change: Callable[[dict[str, bytes]], object], complaint: str
) -> None:
    rewritten(engine, change)
    with pytest.raises(ModelError, match=complaint + ".*build it again"):
        open_pytorch(engine, OPTIONS)
    assert open_builder("pytorch").fault(engine) is not None


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_half_an_engine_is_refused_in_silence(engine: Path, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    whole = engine.read_bytes()
    assert open_builder("pytorch").fault(engine) is None
    engine.write_bytes(whole[: int(len(whole) * share)])
    assert open_builder("pytorch").fault(engine) == "is damaged or no .pt2 file"
    with pytest.raises(ModelError, match=r"0123\.engine is no engine for pytorch.*build it again"):
        open_pytorch(engine, OPTIONS)
    assert capfd.readouterr() == ("", "")


def test_an_onnx_file_is_no_engine(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    with pytest.raises(ModelError, match=r"m\.onnx is no engine for pytorch"):
        open_pytorch(tmp_path / "m.onnx", OPTIONS)


# --- what cannot be built ---


def test_int8_is_refused(weights: Path) -> None:
    with pytest.raises(BuildError, match="no int8 here, only fp32, fp16, bf16"):
        open_builder("pytorch").build(material(torchnets.manifest(), weights), Order(Recipe("int8")), silent)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Write a graph that has nothing of a network's in it."""
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1,)) for name in "xy")
    made = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "nothing", [x], [y])
    onnx.save(onnx.helper.make_model(made), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_onnx_weights_alone_are_refused(graph: Path) -> None:
    told = torchnets.manifest().model_dump() | {"weights": {"onnx": {"file": "m.onnx"}}}
    with pytest.raises(BuildError, match=r"only ONNX weights.*checkpoint in the manifest"):
        open_builder("pytorch").build(material(Manifest.model_validate(told), graph), Order(), silent)


def test_an_onnx_file_that_is_the_checkpoint_is_read(graph: Path) -> None:
    state = {name: tensor.numpy() for name, tensor in torchnets.network().state_dict().items()}
    onnx.save(completed(onnx.load(graph), state, INNER), graph)
    told = torchnets.manifest().model_dump() | {"weights": {"onnx": {"file": "m.onnx"}}}
    heard: list[str] = []
    assert open_builder("pytorch").build(material(Manifest.model_validate(told), graph), Order(), heard.append).data
    assert not [sentence for sentence in heard if "looking for" in sentence]


def test_a_graph_without_an_architecture_is_refused(tmp_path: Path) -> None:
    told = torchnets.manifest().model_dump() | {"architecture": None}
    with pytest.raises(BuildError, match="'architecture'"):
        open_builder("pytorch").build(material(Manifest.model_validate(told), tmp_path / "w.pth"), Order(), silent)


def test_where_the_material_is_onnx_the_checkpoint_is_found(
    weights: Path, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMER_MODELS", str(weights.parent))
    told = torchnets.manifest().model_dump()
    told["weights"] = {"onnx": {"file": "m.onnx"}, "checkpoint": {"file": weights.name, "key": "model"}}
    heard: list[str] = []
    made = open_builder("pytorch").build(material(Manifest.model_validate(told), graph), Order(), heard.append)
    assert made.data
    assert heard[0].startswith("looking for w.pth")


def test_an_engine_is_bound_to_a_version_and_to_no_device() -> None:
    identity = open_builder("pytorch").identity(Order())
    assert (identity.version, identity.device) == (torch.__version__, "any")
    with pytest.raises(RuntimeUnavailable, match="leave out the targets"):
        open_builder("pytorch").identity(Order(targets=("sm_86",)))
