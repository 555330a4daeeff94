"""The TensorRT code names only what every version that it claims has; and the CUDA code likewise."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from trt_bindings import ROOT, Bindings, Names

FULL = [
    Bindings("tensorrt-cu12-bindings", "10.3.0", "tensorrt_bindings"),
    Bindings("tensorrt-cu12-bindings", "10.9.0.34", "tensorrt_bindings"),
    Bindings("tensorrt-cu13-bindings", "10.16.1.11", "tensorrt_bindings"),
    Bindings("tensorrt-cu13-bindings", "11.0.0.114", "tensorrt_bindings"),
    Bindings("tensorrt-cu13-bindings", "11.4.0.106", "tensorrt_bindings"),
]
RTX = [
    Bindings("tensorrt-rtx-cu13-bindings", "1.5.0.114", "tensorrt_rtx_bindings"),
    Bindings("tensorrt-rtx-cu13-bindings", "1.7.1.116", "tensorrt_rtx_bindings"),
]
CUDA = [
    Bindings("cuda-bindings", "12.8.0", "cuda.bindings.runtime"),
    Bindings("cuda-bindings", "13.5.0", "cuda.bindings.runtime"),
]
SHARED = ["build/trt_common.py", "runtimes/trt_core.py", "runtimes/trt_engine.py", "runtimes/trt_log.py"]
FILES = {
    "full": [*SHARED, "build/tensorrt.py", "runtimes/tensorrt.py"],
    "rtx": [*SHARED, "build/tensorrt_rtx.py", "runtimes/tensorrt_rtx.py"],
    "cuda": ["runtimes/cuda.py"],
}
MODULES = {"trt", "tensorrt_rtx", "cudart"}  # what ours call the module
PROTOCOLS = {"Context": "IExecutionContext"}  # ours -> whose methods it lists

Use = tuple[str, ...]  # a name in the module, and perhaps one in that class


class Uses(ast.NodeVisitor):
    """Find what code takes of a foreign module: dotted names, and what is done with whatever is annotated with a class.

    An annotation holds in its function and those inside it, or, on an attribute of self, in the file.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.found: set[Use] = set()
        self._scopes: list[dict[str, str]] = [dict(_annotated(tree))]
        self.visit(tree)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._scopes.append(dict(_annotated(node)))
        self.generic_visit(node)
        self._scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """A class that extends theirs, or lists what it can do, must call its methods what they do."""
        methods = [n.name for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
        bases = [use[0] for base in node.bases if (use := _dotted(base))]
        for theirs in [*bases, *filter(None, [PROTOCOLS.get(node.name)])]:
            self.found |= {(theirs, method) for method in methods}
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if use := _dotted(node):
            self.found.add(use[:2])
        elif theirs := self._class_of(ast.unparse(node.value)):
            self.found.add((theirs, node.attr))
        self.generic_visit(node)

    def _class_of(self, expression: str) -> str | None:
        return next((scope[expression] for scope in reversed(self._scopes) if expression in scope), None)


def _annotated(scope: ast.Module | ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Yield what is annotated with one of their classes: arguments and variables; of a module, attributes of self."""
    for node in ast.walk(scope):
        if isinstance(node, ast.arg) and isinstance(scope, ast.FunctionDef):
            yield from ((node.arg, theirs) for theirs in _classes(node.annotation))
        if isinstance(node, ast.AnnAssign):
            name = ast.unparse(node.target)
            if isinstance(scope, ast.FunctionDef) or name.startswith("self."):
                yield from ((name, theirs) for theirs in _classes(node.annotation))


def _classes(annotation: ast.expr | None) -> Iterator[str]:
    if isinstance(annotation, ast.BinOp):  # of "X | None"
        annotation = annotation.left
    if annotation is not None and len(use := _dotted(annotation)) == 1:
        yield use[0]


def _dotted(node: ast.expr) -> Use:
    """Read ``trt.A.B`` as A, B; nothing where it does not begin with the module."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return tuple(names) if isinstance(node, ast.Name) and node.id in MODULES else ()


def uses(kind: str) -> set[Use]:
    trees = [ast.parse((ROOT / "engines" / file).read_text()) for file in FILES[kind]]
    return {use for tree in trees for use in Uses(tree).found}


def lacking(names: Names, wanted: set[Use]) -> list[str]:
    return sorted(
        ".".join(use) for use in wanted if use[0] not in names or (len(use) > 1 and use[1] not in names[use[0]])
    )


@pytest.fixture(scope="session")
def cache_dir(request: pytest.FixtureRequest) -> Path:
    cache = request.config.cache
    assert cache is not None, "pytest's cache is switched off"
    return cache.mkdir("trt_bindings")


@pytest.mark.parametrize("bindings", FULL, ids=str)
def test_names_of_the_full_tensorrt(bindings: Bindings, cache_dir: Path) -> None:
    assert lacking(bindings.names(cache_dir), uses("full")) == []


@pytest.mark.parametrize("bindings", RTX, ids=str)
def test_names_of_tensorrt_rtx(bindings: Bindings, cache_dir: Path) -> None:
    assert lacking(bindings.names(cache_dir), uses("rtx")) == []


@pytest.mark.parametrize("bindings", CUDA, ids=str)
def test_names_of_cuda(bindings: Bindings, cache_dir: Path) -> None:
    assert lacking(bindings.names(cache_dir), uses("cuda")) == []


@pytest.mark.parametrize("bindings", [FULL[0], FULL[-1]], ids=str)
def test_modules_load_with_the_oldest_and_the_newest(bindings: Bindings, cache_dir: Path) -> None:
    """The bindings alone are called otherwise than the whole package; what they are named after is not there."""
    code = (
        f"import sys, {bindings.module} as tensorrt; sys.modules['tensorrt'] = tensorrt\n"
        "import engines.build.tensorrt, engines.runtimes.tensorrt\n"
        "from engines.runtimes.trt_log import logger, last_error\n"
        "logger(tensorrt).log(tensorrt.ILogger.ERROR, 'Error Code 2: Internal Error (so it is)')\n"
        "print(tensorrt.__version__, last_error(tensorrt))"
    )
    assert bindings.run(cache_dir, "-c", code) == f"{bindings.version} so it is\n"


# --- the reader itself ---


def test_the_reader_finds_what_the_code_is_known_to_use() -> None:
    assert {
        ("IExecutionContext", "execute_async_v3"),
        ("IExecutionContext", "set_device_memory"),
        ("ICudaEngine", "device_memory_size_v2"),
        ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
        ("IProgressMonitor", "step_complete"),
        ("ILogger", "log"),
        ("IBuilderConfig", "set_timing_cache"),
        ("ITimingCache", "serialize"),
        ("ParserError", "node_operator"),
    } <= uses("full")
    assert {("IRuntimeCache", "deserialize"), ("IRuntimeConfig", "cuda_graph_strategy")} <= uses("rtx")
    assert ("cudaStreamCaptureMode", "cudaStreamCaptureModeThreadLocal") in uses("cuda")


def test_the_reader_reads_annotations_where_they_hold() -> None:
    tree = ast.parse(
        "class C:\n"
        "    def __init__(self, builder: tensorrt_rtx.Builder | None) -> None:\n"
        "        self.config: trt.IBuilderConfig = builder.create_builder_config()\n"
        "    def f(self, builder: Other) -> None:\n"
        "        builder.not_theirs(trt.A.B.C)\n"
        "        self.config.flags = 1\n"
    )
    expected = {("Builder",), ("Builder", "create_builder_config"), ("IBuilderConfig",), ("IBuilderConfig", "flags")}
    assert Uses(tree).found == {*expected, ("A",), ("A", "B")}


def test_the_reader_lists_what_is_lacking() -> None:
    names = {"Builder": ["reset"], "nothing": []}
    assert lacking(names, {("Builder",), ("Builder", "reset"), ("Builder", "fp16"), ("Gone", "x")}) == [
        "Builder.fp16",
        "Gone.x",
    ]
