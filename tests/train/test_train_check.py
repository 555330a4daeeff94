"""The command line leaves a model with a record, and the check finds what does not agree with it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
import yaml

from engines.manifest import config_dir, find, read
from engines.networks import build_network
from engines.networks.checkpoint import read_state_dict, read_state_for
from engines.train import check, record
from engines.train.__main__ import main
from engines.train.check import TRAINING, Entry, adopt, faults
from engines.train.errors import TrainingError
from engines.train.loop import CHECKPOINT, WEIGHTS
from engines.train.options import command, parser
from engines.train.plan import Plan
from engines.train.record import RECORD, Record

QUICK = [
    "--steps",
    "4",
    "--size",
    "64",
    "96",
    "--batch",
    "2",
    "--workers",
    "0",
    "--warmup",
    "2",
    "--precision",
    "fp32",
    "--seed",
    "5",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train yolox-pico on the world for four steps."""
    out = tmp_path_factory.mktemp("runs") / "toy"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("engines.train.data.world.HELD_OUT", 2)
        assert main(["yolox-pico", "--out", str(out), *QUICK]) == 0
    return out


@pytest.fixture
def config(trained: Path, tmp_path: Path) -> Path:
    """Lay a folder of configuration that ships what was trained."""
    (tmp_path / "models").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "models" / "yolox-pico.yaml").write_text((config_dir() / "models" / "yolox-pico.yaml").read_text())
    adopt(trained, tmp_path)
    edit(tmp_path, {"at_least": {"map50": 0.0}})
    return tmp_path


def test_a_training_leaves_a_model_and_how_it_was_made(trained: Path) -> None:
    manifest = read(trained / "model.yaml")
    assert manifest.weights.file.file == "model.onnx"
    assert manifest.labels == read(config_dir() / "models" / "yolox-pico.yaml").labels
    (made,) = record.read(trained / RECORD, Record)
    assert (made.model, made.seed, set(made.figures)) == ("yolox-pico", 5, {"map50", "map"})
    assert made.seconds > 0
    assert "torch" in made.machine


def test_its_command_says_all_that_is_learnt_by(trained: Path) -> None:
    """Read back, it gives the same plan, whatever is usual by then."""
    (made,) = record.read(trained / RECORD, Record)
    told = parser().parse_args(made.commands[0].split()[3:])
    assert (told.lr, told.ema, told.steps, told.batch, told.precision) == (3e-3, 0.999, 4, 2, "fp32")
    assert (told.size, told.out, made.commands[0].count("None")) == ([64, 96], Path("toy"), 0)
    assert command(told, Plan(1)).split()[:7] == made.commands[0].split()[:7]


def test_a_folder_with_a_training_is_not_overwritten(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / CHECKPOINT).read_bytes()
    assert main(["yolox-pico", "--out", str(trained), *QUICK]) == 2
    assert "go on with --resume" in capsys.readouterr().err
    assert (trained / CHECKPOINT).read_bytes() == before


def test_one_that_begins_with_the_weights_of_another_tells_both(trained: Path, tmp_path: Path) -> None:
    told = ["--out", str(tmp_path / "more"), "--start", str(trained / WEIGHTS), *QUICK[2:], "--steps", "1"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("engines.train.data.world.HELD_OUT", 1)
        assert main(["yolox-pico", *told]) == 0
    (made,) = record.read(tmp_path / "more" / RECORD, Record)
    assert [f"--start {trained.name}/" in line for line in made.commands] == [False, True]


def test_an_ssd_begins_with_the_body_of_a_yolox(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is learnt here, so the pyramid's weights are the YOLOX's own."""
    told = ["--out", str(tmp_path / "ssd"), "--body", str(trained / WEIGHTS), "--seed", "5"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("engines.train.data.world.HELD_OUT", 1)
        assert main(["ssd-pico", *told, "--steps", "1", "--batch", "1", "--workers", "0", "--lr", "0"]) == 0
    assert f"{trained / WEIGHTS} has 354 of the network's 468 tensors" in capsys.readouterr().out
    body, made = (torch.load(folder / WEIGHTS, weights_only=True) for folder in (trained, tmp_path / "ssd"))
    same = [key for key in body if key.startswith("backbone.") and key.endswith("conv.weight")]
    assert same
    assert all(torch.equal(made[key], body[key]) for key in same)
    (noted,) = record.read(tmp_path / "ssd" / RECORD, Record)
    assert [f"--body {trained.name}/" in line for line in noted.commands] == [False, True]


def test_one_that_goes_on_still_knows_what_it_began_with(config: Path, tmp_path: Path) -> None:
    """The weights are shipped ones, whose record lies beside them, and they may be gone by then."""
    shipped = config / "weights" / "yolox-pico.onnx"
    told = ["ssd-pico", "--out", str(tmp_path / "ssd"), "--batch", "1", "--workers", "0", "--steps", "2"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("engines.train.data.world.HELD_OUT", 1)
        patched.setattr("engines.train.__main__._tell", Terminates(2))
        assert main([*told, "--log-every", "1", "--body", str(shipped)]) == 3
        shipped.unlink()
        assert main([*told, "--resume"]) == 0
    (noted,) = record.read(tmp_path / "ssd" / RECORD, Record)
    (before,) = record.read(config / "weights" / TRAINING, Entry)
    assert noted.commands[0] == before.commands[0]
    assert "--body weights/yolox-pico.onnx" in noted.commands[1]
    assert noted.seconds > before.seconds


def test_one_that_is_stopped_goes_on_to_the_same_end(trained: Path, tmp_path: Path) -> None:
    """SIGTERM comes with the second line that it tells; what was begun is finished, and nothing is lost."""
    told = ["yolox-pico", "--out", str(tmp_path / "toy"), "--log-every", "1", *QUICK]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("engines.train.data.world.HELD_OUT", 2)
        patched.setattr("engines.train.__main__._tell", Terminates(2))
        before = signal.getsignal(signal.SIGTERM)
        assert main(told) == 3
        assert signal.getsignal(signal.SIGTERM) == before
        assert torch.load(tmp_path / "toy" / CHECKPOINT, weights_only=True)["step"] == 2
        assert main([*told, "--resume"]) == 0
    assert (tmp_path / "toy" / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()


def test_one_that_is_stopped_when_all_is_learnt_is_exported_later(tmp_path: Path) -> None:
    """SIGTERM comes with its only line, the last figures."""
    out = tmp_path / "toy"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("engines.train.data.world.HELD_OUT", 2)
        patched.setattr("engines.train.__main__._tell", Terminates(1))
        assert main(["yolox-pico", "--out", str(out), *QUICK]) == 3
    assert (out / WEIGHTS).is_file()
    assert not (out / "model.yaml").exists()
    assert main(["yolox-pico", "--out", str(out), "--export"]) == 0
    assert read(out / "model.yaml").weights.file.file == "model.onnx"


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (["--steps", "0"], "'0' is no whole number from 1 on"),
        (["--batch", "-1"], "'-1' is no whole number from 1 on"),
        (["--workers", "-1"], "'-1' is no whole number from 0 on"),
        (["--seed", "half"], "'half' is no whole number from 0 on"),
        (["--size", "0", "64"], "'0' is no whole number from 1 on"),
        (["--lr", "nan"], "'nan' is not from 0 on"),
        (["--floor", "2"], "'2' is not between 0 and 1"),
        (["--ema", "x"], "invalid"),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused(
    told: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["yolox-pico", "--out", str(tmp_path / "toy"), *told])
    assert ended.value.code == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "toy").exists()


@pytest.mark.parametrize("device", ["lamp", "cuda:99"])
def test_a_device_that_is_not_there_is_told_before_anything_is_made(
    device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["yolox-pico", "--out", str(tmp_path / "toy"), "--device", device]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"--device {device} cannot be used here (")
    assert told.count("\n") == 1
    assert not (tmp_path / "toy").exists()


def test_a_file_is_no_folder_to_train_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "toy").write_text("something else")
    assert main(["yolox-pico", "--out", str(tmp_path / "toy")]) == 2
    assert "cannot be made a folder (File exists): name another --out" in capsys.readouterr().err


class Terminates:
    """End this process, as a service's manager would, once it has told so much."""

    def __init__(self, lines: int) -> None:
        self._left = lines

    def __call__(self, _sentence: str) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def test_what_is_shipped_is_as_it_is_told(config: Path) -> None:
    assert not list(faults(config))
    weights = config / "weights"
    assert sorted(path.name for path in weights.iterdir()) == [TRAINING, "yolox-pico.onnx"]


def test_weights_that_were_exchanged_are_found(config: Path) -> None:
    (config / "weights" / "yolox-pico.onnx").write_bytes(b"others")
    assert [each for each in faults(config) if "yolox-pico.onnx is not what was trained" in each]


def test_weights_that_are_missing_are_found(config: Path) -> None:
    (config / "weights" / "yolox-pico.onnx").unlink()
    assert [each for each in faults(config) if "yolox-pico.onnx is missing" in each]


def test_what_is_shipped_is_its_checkpoint_too(config: Path, trained: Path) -> None:
    """Normalisations were folded into kernels, and kernels rounded to halves: apart again, they are what was learnt."""
    told = find("yolox-pico")
    network = build_network(told.architecture or "", told.variant, len(told.labels))
    found = read_state_for(network, config / "weights" / "yolox-pico.onnx")
    learnt = read_state_dict(trained / WEIGHTS)
    assert set(found) == {name for name in learnt if not name.endswith("num_batches_tracked")}
    for name, tensor in found.items():
        error = torch.linalg.norm(tensor.float() - learnt[name].float())
        assert error <= 1e-3 * torch.linalg.norm(learnt[name].float()), name


def test_weights_that_nobody_trained_are_found(config: Path) -> None:
    (config / "weights" / "stranger.onnx").write_bytes(b"")
    assert [each for each in faults(config) if "stranger.onnx is of no training" in each]


def test_weights_that_are_too_large_are_found(config: Path) -> None:
    with (config / "weights" / "large.bin").open("wb") as file:
        file.truncate(26_000_000)
    assert [each for each in faults(config) if "more than 25" in each]


def test_a_model_without_a_manifest_is_found(config: Path) -> None:
    (config / "models" / "yolox-pico.yaml").unlink()
    assert [each for each in faults(config) if "has no manifest" in each]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"at_least": {"map50": 0.9}}, "map50 is 0.0000, and shall be 0.9 at least"),
        ({"at_most": {"epe": 1.0}}, "epe is nan, and shall be 1.0 at most"),
        ({"seed": 6}, "its last command trains yolox-pico with seed 5"),
    ],
)
def test_records_that_promise_more_than_there_is_are_found(config: Path, changes: dict[str, object], why: str) -> None:
    edit(config, {"figures": {"map50": 0.0}} | changes)
    assert [each for each in faults(config) if why in each]


def test_one_without_a_goal_is_found(config: Path) -> None:
    edit(config, {"at_least": {}})
    assert [each for each in faults(config) if "yolox-pico has no goals" in each]


def test_a_goal_outlives_the_next_training(config: Path, trained: Path) -> None:
    adopt(trained, config)
    (entry,) = record.read(config / "weights" / TRAINING, Entry)
    assert entry.at_least == {"map50": 0.0}


def test_a_record_of_no_training_is_refused(config: Path) -> None:
    edit(config, {"commands": ["make coffee"]})
    with pytest.raises(TrainingError, match="trains nothing"):
        list(faults(config))


def test_a_fault_in_the_file_is_told_with_its_line(config: Path) -> None:
    edit(config, {"sed": 5})
    with pytest.raises(TrainingError, match=r"TRAINING\.yaml:\d+: .*sed"):
        list(faults(config))


def test_figures_are_measured_anew(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.train.data.world.HELD_OUT", 2)
    assert not list(check._measured("yolox-pico", config))
    edit(config, {"figures": {"map50": 0.9, "map": 0.0}})
    assert [each for each in check._measured("yolox-pico", config) if "map50 is told to be 0.9000, but is 0.0" in each]


def test_what_we_ship_is_what_its_record_says() -> None:
    if not (config_dir() / "weights" / TRAINING).is_file():
        pytest.skip("no weights are shipped yet: train one of the pico models, and adopt it")
    assert check.main([]) == 0


def edit(config: Path, changes: dict[str, object]) -> None:
    """Change the one record of a folder by hand."""
    path = config / "weights" / TRAINING
    (told,) = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump([told | changes]))
