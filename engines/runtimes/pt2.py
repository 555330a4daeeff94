"""What may be in a .pt2 file that is opened: tensors and arithmetic, as our own builder writes it, and nothing else.

`torch.export.load` (torch 2.13) unpickles tensors and sample inputs that ask for it, runs guards that come as source,
evaluates the sizes that come as expressions, looks operators up by any path under `torch`, writes names into source
that it runs, and loads shared objects. So a file is read as a zip archive first, and all that is not plainly one of
ours is refused. Torch itself is not needed for that.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FACTS = "streamer.json"  # what the builder says of the network: model, precision, layout

_MODEL = "models/model.json"
_SAMPLES = "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_NEEDED = (_MODEL, _SAMPLES, *_CONFIGS, f"extra/{FACTS}")
_MEMBER = re.compile(
    "|".join(map(re.escape, _NEEDED))
    + r"|data/weights/weight_\d+|data/constants/tensor_\d+|archive_format|archive_version|byteorder|\.data/\w+"
)
# What strings in the graph may be, by the key that they are the value of; torch makes Python source of some.
_OPERATOR = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.(getitem|mul)")
_SYMBOL = r"Symbol\('\w+'(, (positive|integer)=True)*\)"
_ALLOWED = {
    "target": _OPERATOR,
    "as_operator": _OPERATOR,
    "name": re.compile(r"[\w.]*"),
    "expr_str": re.compile(rf"(Mul\(Integer\(\d+\), )?{_SYMBOL}\)?"),
}


def fault(path: Path) -> str | None:
    """Say why a file cannot be an engine of ours, without running anything in it; None where it can."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _fault(archive, {name.partition("/")[2]: name for name in archive.namelist()})
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "is damaged or no .pt2 file"


def facts(path: Path) -> dict[str, Any]:
    """Read what the builder says of the network in a file without fault."""
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(f"/extra/{FACTS}"))
        found: dict[str, Any] = json.loads(archive.read(name))
    return found


def _fault(archive: zipfile.ZipFile, members: dict[str, str]) -> str | None:
    if strange := [member for member in members if not _MEMBER.fullmatch(member)]:
        return f"holds {strange[0]!r}, which no engine of ours does"
    if lacking := [member for member in _NEEDED if member not in members]:
        return f"lacks {lacking[0]!r}, which every engine of ours has"
    if archive.getinfo(members[_SAMPLES]).file_size:
        return "holds pickled sample inputs"
    for config in _CONFIGS:
        if any(
            entry["use_pickle"] is not False for entry in json.loads(archive.read(members[config]))["config"].values()
        ):
            return "holds pickled tensors"
    return _graph_fault(json.loads(archive.read(members[_MODEL])))


def _graph_fault(model: dict[str, Any]) -> str | None:
    if model["guards_code"]:
        return "holds guards, which are Python code"
    for key, value in _strings(model):
        if key in _ALLOWED and not _ALLOWED[key].fullmatch(value):
            return f"holds {value!r} as {key}, which could be Python code"
    return None


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Find every string anywhere in a JSON document, with the key that it is the value of."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)
