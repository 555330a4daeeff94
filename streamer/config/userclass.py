"""A class of the user's own: imported by name, and looked at before anything starts.

``my_package.stages:Fall`` is imported as Python does it: from an installed package, or from $PYTHONPATH.
``fall.py:Fall`` is that one file, and its path starts at the folder of the pipeline file, from wherever it is run; the
file is not found by another's ``import``, and nothing is put on the path. What is more than a file is a package.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, util
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic.errors import PydanticUserError

from engines.yamlsource import suggest

_FORM = "write package.module:Class, or file.py:Class for a file beside the pipeline's"
_PORTS = ("reads", "writes")  # what a class that takes batches is made with, besides its options


def load_class(text: str, folder: Path) -> type:
    """Import a class; paths start at *folder*. Raises ValueError: one sentence that says what is wrong."""
    where, _, name = text.rpartition(":")
    if not (where and name):
        raise ValueError(f"names no class; {_FORM}")
    module = _from_file(folder / where) if where.endswith(".py") else _from_path(where, name, folder)
    found = getattr(module, name, None)
    if found is None:
        classes = [each for each, value in vars(module).items() if inspect.isclass(value) and _is_own(value, module)]
        raise ValueError(f"{where} has no class {name!r}{suggest(name, classes)}")
    if not inspect.isclass(found):
        raise ValueError(f"{name} in {where} is no class, but {type(found).__name__}; name a class")
    return found


def _is_own(value: type, module: ModuleType) -> bool:
    return value.__module__ == module.__name__


def _from_path(name: str, wanted: str, folder: Path) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ValueError(_broken(name, error)) from error
        found = (folder / f"{name}.py").is_file()
        remedy = f"for the file beside the pipeline's write {name}.py:{wanted}" if found else f"install it, or {_FORM}"
        raise ValueError(f"there is no module {error.name!r}; {remedy}") from error
    except Exception as error:  # a user's module may raise anything
        raise ValueError(_broken(name, error)) from error


def _from_file(path: Path) -> ModuleType:
    """Import a file, once: whoever names it again gets the same classes."""
    path = path.resolve()
    name = f"{path.stem}@{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"  # no other module's
    if name in sys.modules:
        return sys.modules[name]
    spec = util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ValueError(f"there is no file {path}; paths start at the pipeline file")
    module = sys.modules[name] = util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # as above
        del sys.modules[name]
        raise ValueError(_broken(path.name, error)) from error
    return module


def _broken(name: str, error: Exception) -> str:
    """Say what an import raised, and on which line."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f", {Path(at.filename).name}:{at.lineno}" for at in frames if not _is_machinery(at.filename)]
    said = str(error).partition("\n")[0]
    return f"{name} cannot be imported ({type(error).__name__}: {said}{(lines or [''])[-1]}); mend it"


def _is_machinery(file: str) -> bool:
    return file == __file__ or "importlib" in file


@dataclass(frozen=True, slots=True)
class Contract:
    """What a node class declares."""

    reads: tuple[type, ...]  # what it expects of each node that it reads
    writes: type
    labels: tuple[str, ...]  # of the objects that it finds; none: those of what it reads
    batches: bool  # it takes packets of all cameras at once, rather than frames of one
    options: type[BaseModel]  # what it may be made with


@cache
def contract(made: type[Any]) -> Contract:
    """Look at a node class. Raises ValueError: one sentence that says what it lacks."""
    name = made.__name__
    reads, writes = getattr(made, "reads", ()), getattr(made, "writes", None)
    if not isinstance(reads, tuple) or not all(inspect.isclass(kind) for kind in reads):
        raise ValueError(f"{name}.reads must be a tuple of classes, such as reads = (Detections,)")
    if not inspect.isclass(writes):
        raise ValueError(f"{name} does not say what it returns; give it a class as 'writes', such as writes = Note")
    labels = getattr(made, "labels", ())
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{name}.labels must be a tuple of texts, such as labels = ('person',)")
    batches = callable(getattr(made, "process", None))
    if not batches:
        _check_call(made, len(reads))
    options = _options(made, _PORTS if batches else ())
    return Contract(reads, writes, tuple(labels), batches, options)


def _check_call(made: type, reads: int) -> None:
    call = next((vars(base)["__call__"] for base in made.__mro__ if "__call__" in vars(base)), None)
    wanted = "the frame" + "".join(f", and a value of what it reads ({reads})" if reads else "")
    if call is None:
        raise ValueError(f"{made.__name__} has no __call__, which is given {wanted}; add it, or process(packets)")
    try:
        inspect.signature(call).bind(None, None, *[None] * reads)
    except TypeError as error:
        raise ValueError(f"{made.__name__}.__call__ is given {wanted}, but does not take them: {error}") from error


def _options(made: type, ports: tuple[str, ...]) -> type[BaseModel]:
    """Make a model of what a class is made with, so that options are checked as everything else in the file is."""
    parameters = _parameters(made)
    spread = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    if lacking := [port for port in ports if port not in parameters and not spread]:
        raise ValueError(f"{made.__name__} takes packets, so it is made with reads and writes; add {lacking[0]!r}")
    fields: dict[str, Any] = {f"option{i}": field for i, field in enumerate(_fields(parameters, ports))}
    config = ConfigDict(frozen=True, extra="allow" if spread else "forbid", arbitrary_types_allowed=True)
    return create_model(made.__name__, __config__=config, **fields)


def _parameters(made: type) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(made, eval_str=True).parameters
    except NameError:  # an annotation that only type checkers can read
        return inspect.signature(made).parameters


def _fields(parameters: Mapping[str, inspect.Parameter], ports: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
    for name, each in parameters.items():
        if name not in ports and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            default = ... if each.default is each.empty else each.default
            yield _readable(each.annotation), Field(default, alias=name)


def _readable(annotation: Any) -> Any:
    """Leave to the class what pydantic cannot check."""
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return Any
    try:
        TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        return Any
    return annotation
