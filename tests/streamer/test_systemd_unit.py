"""The unit file as systemd reads it, without being started: there is no systemd to start it in a test."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from streamer.cli import TERMINATED, WRONG_INPUT

UNIT = Path(__file__).resolve().parents[2] / "deploy/systemd/streamer@.service"
EXPOSED = 25  # tenths: what systemd calls OK


def values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


def analyse(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on the unit, with a program in it that exists here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: apt install systemd")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/streamer/bin/streamer", "/bin/true"))
    command = ["systemd-analyze", *words, str(unit)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    done = analyse(tmp_path, "verify", "--man=no")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_break_in_could_do_little(tmp_path: Path) -> None:
    done = analyse(tmp_path, "security", "--offline=true", f"--threshold={EXPOSED}", "--no-pager")
    if "unrecognized option" in done.stderr:
        pytest.skip("needs systemd 250 or newer, whose security reads files")
    assert done.returncode == 0, done.stdout


def test_it_agrees_with_the_exit_codes() -> None:
    assert values("Restart") == ["on-failure"]
    assert values("RestartPreventExitStatus") == [str(WRONG_INPUT)]
    assert values("SuccessExitStatus") == [str(TERMINATED)]


def test_what_the_unit_makes_is_where_the_streamer_looks() -> None:
    (environment,) = values("Environment")
    assert "XDG_CACHE_HOME=%C" in environment.split()  # and $XDG_CACHE_HOME/streamer is the cache
    assert values("CacheDirectory") == ["streamer"]
    assert values("WorkingDirectory") == [f"%S/{values('StateDirectory')[0]}"]
