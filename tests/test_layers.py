"""Imports point one way only: engines knows nothing of the streamer, and each layer nothing of those above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each module may import from its own row and the rows above it.
STREAMER_LAYERS: list[set[str]] = [
    {"types", "notes", "errors", "events", "clock", "stats", "health", "urls", "backoff", "logs", "systemd", "plugins"},
    {"sources"},
    {"mailbox", "intake", "flight", "crew"},
    {"batcher", "grabber", "ledger"},
    {"stages"},
    {"wire", "draw"},
    {"sinks", "embedded"},
    {"monitor", "exporters"},
    {"graph", "config"},
    {"fleet", "governor", "publisher", "pipeline", "build", "control", "reload", "service"},
    {"client"},
    {"selftest"},
    {"cli", "__main__"},
]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def layer(module: str) -> int:
    return next(i for i, names in enumerate(STREAMER_LAYERS) if module in names)


@pytest.mark.parametrize("path", modules("engines"), ids=lambda p: str(p.relative_to(ROOT)))
def test_engines_never_imports_streamer(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0] == "streamer"]


@pytest.mark.parametrize("path", modules("streamer"), ids=lambda p: str(p.relative_to(ROOT)))
def test_streamer_imports_point_up_the_list(path: Path) -> None:
    parts = path.relative_to(ROOT / "streamer").with_suffix("").parts
    if parts == ("__init__",):
        return
    mine = layer(parts[0])
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package == "streamer" and rest and rest != "__version__":
            assert layer(rest.split(".")[0]) <= mine, f"{path} imports {name}"


@pytest.mark.parametrize("package", ["engines", "streamer"])
def test_serving_never_imports_torch(package: str) -> None:
    serving = [p for p in modules(package) if not {"networks", "build", "train"} & set(p.relative_to(ROOT).parts[:-1])]
    assert not [(p, n) for p in serving if p.name != "pytorch.py" for n in imports(p) if n.split(".")[0] == "torch"]


def test_the_client_needs_no_vision_library() -> None:
    code = "import sys, streamer.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"cv2", "av", "openvino", "onnxruntime", "torch"} & set(done.stdout.split())
