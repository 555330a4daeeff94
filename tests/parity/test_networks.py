"""Every network against its public implementation: the same keys, the same shapes, the same outputs."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from engines.networks import find_published

FOLDER = Path(os.environ.get("PARITY_DIR") or Path(__file__).resolve().parents[2] / "../shared/parity")
CASES = sorted(path.stem for path in FOLDER.glob("*.npz"))


@pytest.fixture(scope="module")
def parity() -> ModuleType:
    """The module that lies beside the cases and says how to use them."""
    spec = importlib.util.spec_from_file_location("parity_cases", FOLDER / "parity.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(
    not CASES, reason=f"needs the reference cases: put them into {FOLDER}, or say where with PARITY_DIR"
)
def test_there_are_cases_for_what_is_published(parity: ModuleType) -> None:
    assert any(find_published(name.partition("@")[0]) for name in CASES)


@pytest.mark.parametrize("name", CASES)
def test_public_weights_load_strictly_and_give_the_public_outputs(parity: ModuleType, name: str) -> None:
    case = parity.load(name, FOLDER)
    found = find_published(case.architecture)
    if found is None:
        pytest.skip(f"{case.architecture} is not among the networks yet: add its file and its row to engines.networks")
    family, published = found
    network = family.build(published.variant, published.classes)
    state = {key: torch.from_numpy(value) for key, value in parity.make_state_dict(case).items()}
    network.load_state_dict(state, strict=True)
    inputs = {key: torch.from_numpy(parity.make_input(case, key)) for key in case.inputs}
    with torch.inference_mode():
        outputs = family.reference(network.eval(), inputs)
    assert outputs.keys() == case.shapes.keys()
    for key, output in outputs.items():
        parity.compare(case, key, output.numpy(), rtol=1e-3)
