"""The bindings of any TensorRT, from PyPI, with hollow libraries in place of NVIDIA's: good for reading names."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_LIBRARY = re.compile(rb"lib(?:nvinfer|nvonnxparser|tensorrt)\w*\.so\.\d+")
_FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getNvOnnxParserVersion",
    "getBuilderPluginRegistry",
    "getPluginRegistry",
    "getInferLibVersion",
    "initLibNvInferPlugins",
)
_DUMP = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
found = {name: getattr(module, name) for name in dir(module)}
print(json.dumps({name: dir(value) if isinstance(value, type) else [] for name, value in found.items()}))
"""

Names = dict[str, list[str]]  # of a module, and of each class in it


@dataclass(frozen=True)
class Bindings:
    """A package on PyPI, and the module in it."""

    package: str
    version: str
    module: str

    def __str__(self) -> str:
        return f"{self.package.removesuffix('-bindings')} {self.version}"

    def names(self, cache_dir: Path) -> Names:
        """Import the module in a process of its own, and list what is in it."""
        answer = self.run(cache_dir, "-c", _DUMP, self.module)
        names: Names = json.loads(answer)
        return names

    def run(self, cache_dir: Path, *arguments: str) -> str:
        """Run Python with these bindings first on its path; return what it prints."""
        folder = self._unpacked(cache_dir)
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "LD_LIBRARY_PATH": str(folder / "hollow")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _unpacked(self, cache_dir: Path) -> Path:
        folder = cache_dir / f"{self.package}-{self.version}"
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            with zipfile.ZipFile(_downloaded(self.package, self.version, folder)) as wheel:
                wheel.extractall(folder)
            _compile_hollow_libraries(folder)
            (folder / "whole").touch()
        return folder


@cache
def _unreachable() -> list[str]:
    """Why nothing can be downloaded, once that is known: not every test should wait for it."""
    return []


def _downloaded(package: str, version: str, folder: Path) -> Path:
    if _unreachable():
        pytest.skip(_unreachable()[0])
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--retries", "0", "--timeout", "15", "--only-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run([*command, f"{package}=={version}"], capture_output=True, text=True, timeout=120)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no word from pip"]
        _unreachable().append(f"needs {package} {version} from PyPI, once: pip says {said[0]}")
        pytest.skip(_unreachable()[0])
    (wheel,) = folder.glob("*.whl")
    return wheel


def _compile_hollow_libraries(folder: Path) -> None:
    """Make each library that the bindings are linked with, of functions that return nothing."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler for libraries that do nothing: apt install gcc")
    hollow = folder / "hollow"
    hollow.mkdir()
    source = hollow / "hollow.c"
    source.write_text("".join(f"void *{function}(void) {{ return 0; }}\n" for function in _FUNCTIONS))
    binaries = [*folder.glob("tensorrt*/*.so")]
    for name in {found.decode() for binary in binaries for found in _LIBRARY.findall(binary.read_bytes())}:
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(hollow / name), str(source)]
        subprocess.run(command, check=True, timeout=60)
