"""What may happen to a build: it is killed, the disk is full, others build the same. Never is half an engine used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from benches import bench, tag

from engines.build.base import Built, Material, Order, Profile
from engines.build.cache import EngineCache
from engines.build.graph import material
from engines.build.openvino import OpenVinoBuilder
from engines.build.rebuild import Rebuild
from engines.build.sidecar import label, sidecar_of
from engines.errors import BuildError

ROOT = Path(__file__).resolve().parents[2]
ORDER = Order(profile=Profile(1, 2, 2), threads=1)

# A process that builds the same engine again and again, each time with other bytes.
BUILDER = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/support")
from benches import bench, tag
from engines.build.base import Built
from engines.build.cache import EngineCache
made, cache = bench(Path(sys.argv[1])), EngineCache(Path(sys.argv[2]))
print("ready", flush=True)
for n in range(1 << 30):
    with cache.building(tag(made)):
        cache.put(tag(made), made, Built(bytes([n % 256]) * 20_000_000), 1.0)
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Material:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return bench(tmp_path / "bench")


@pytest.fixture
def cache(made: Material) -> EngineCache:
    return EngineCache()


def child(code: str, *argv: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, argv)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def sound(_path: Path) -> str | None:
    return None


def killed_when(seen: Callable[[EngineCache], bool], made: Material, cache: EngineCache) -> None:
    """Kill a builder at the moment when there is something to be seen in its folder."""
    process = child(BUILDER, made.weights.parent, cache.folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 30
    while not seen(cache):
        assert time.monotonic() < deadline, "it was never to be seen"
    process.kill()
    process.communicate()


MOMENTS: dict[str, Callable[[EngineCache], bool]] = {
    "while it writes": lambda cache: any(cache.folder.glob("*.engine.part")),
    "as an engine appears": lambda cache: any(cache.folder.glob("*.engine")),
    "before the sidecar": lambda cache: any(cache.folder.glob("*.json.part")),
    "as a sidecar appears": lambda cache: any(cache.folder.glob("*.json")),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_build_that_is_killed_leaves_no_half_engine(made: Material, cache: EngineCache, moment: str) -> None:
    killed_when(MOMENTS[moment], made, cache)
    path = cache.find(tag(made), sound).path
    if path is not None:  # it was between two builds
        assert len(set(path.read_bytes())) == 1
        assert path.stat().st_size == 20_000_000
    assert not cache.busy(tag(made)), "the lock died with the one who held it"
    with cache.building(tag(made)):
        assert cache.put(tag(made), made, Built(b"new" * 100), 1.0).read_bytes() == b"new" * 100
    assert cache.find(tag(made), sound).path is not None
    cache.remove(cache.leftovers())
    assert sorted(file.suffix for file in cache.folder.iterdir()) == [".engine", ".json", ".lock"]


def test_what_a_killed_build_has_left_can_be_removed(made: Material, cache: EngineCache) -> None:
    killed_when(MOMENTS["while it writes"], made, cache)
    assert cache.remove(cache.leftovers()) > 0
    assert cache.leftovers() == []


def test_whoever_waits_goes_on_when_the_builder_is_killed(made: Material, cache: EngineCache) -> None:
    code = BUILDER.partition("print(")[0] + (
        "with cache.building(tag(made)):\n    print('ready', flush=True)\n    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(made.weights.parent), str(cache.folder)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert cache.busy(tag(made))
    waiting = child(BUILDER.replace("1 << 30", "1"), made.weights.parent, cache.folder)
    process.kill()
    process.communicate()
    assert waiting.communicate(timeout=30)[0] == "ready\n"
    assert cache.find(tag(made), sound).path is not None


def test_a_full_disk_is_said_and_leaves_nothing(made: Material, cache: EngineCache) -> None:
    """In a process that may write no file beyond 100 kB: the same answer from the kernel as from a quota."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    said, _ = child(limit + BUILDER, made.weights.parent, cache.folder).communicate(timeout=30)
    last = said.splitlines()[-1]
    assert last.startswith(f"engines.errors.BuildError: no space for {cache.folder}")
    assert "streamer models clean" in last
    assert [file.suffix for file in cache.folder.iterdir()] == [".lock"]


def test_an_old_engine_survives_a_build_that_finds_no_space(made: Material, cache: EngineCache) -> None:
    with cache.building(tag(made)):
        path = cache.put(tag(made), made, Built(b"old" * 1000), 1.0)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    child(limit + BUILDER, made.weights.parent, cache.folder).communicate(timeout=30)
    assert cache.find(tag(made), sound).path == path


@pytest.fixture
def strangers(made: Material) -> Iterator[Callable[[int], str]]:
    """Make a cache of somebody else's, outside pytest's own closed folder; gives what a stranger finds, by its mode."""
    if os.geteuid() != 0:
        pytest.skip("must start as root, to become a user who owns nothing: run it with sudo")
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        cache = EngineCache(Path(folder, "engines"))
        with cache.building(tag(made)):
            path = cache.put(tag(made), made, Built(b"shared"), 1.0)
        os.utime(sidecar_of(path), (1e9, 1e9))
        code = BUILDER.partition("print(")[0] + (
            "import os; wanted = tag(made); os.setegid(65534); os.seteuid(65534)\n"
            "try: print(cache.find(wanted, lambda path: None).path.name)\n"
            "except Exception as error: print(type(error).__name__, error)\n"
        )

        def found(mode: int) -> str:
            cache.folder.chmod(mode)
            return child(code, made.weights.parent, cache.folder).communicate(timeout=30)[0].strip()

        yield found
        assert sidecar_of(path).stat().st_mtime == 1e9


def test_a_cache_that_one_may_only_read_serves(strangers: Callable[[int], str], made: Material) -> None:
    assert strangers(0o755) == EngineCache().path(tag(made)).name


def test_a_cache_that_one_may_not_even_read_is_said(strangers: Callable[[int], str]) -> None:
    said = strangers(0o700)
    assert said.startswith("BuildError ")
    assert said.endswith(
        "cannot be used (Permission denied): make it writable, or set XDG_CACHE_HOME to a folder that is"
    )


def test_a_rebuild_whose_child_is_killed_is_a_build_that_failed(made: Material, cache: EngineCache) -> None:
    weights = made.weights
    weights.write_bytes(weights.read_bytes().replace(b"bright_spots", b"bright_stars"))
    rebuild = Rebuild(material(made.manifest, weights), "openvino", ORDER, cache)
    os.kill(rebuild.pid, signal.SIGKILL)
    with pytest.raises(BuildError, match="the rebuild of bright for OpenVINO failed: it ended with code -9"):
        rebuild.result()
    rebuild.close()
    rebuild.close()


def test_a_rebuild_steps_back_for_those_who_serve(made: Material, cache: EngineCache) -> None:
    wanted = label(made, "openvino", ORDER, OpenVinoBuilder().identity(ORDER))
    with cache.building(wanted):  # it waits for us, and so can be looked at
        rebuild = Rebuild(made, "openvino", ORDER, cache)
        deadline = time.monotonic() + 30
        while os.getpriority(os.PRIO_PROCESS, rebuild.pid) != 10:
            assert time.monotonic() < deadline, "it never became nice"
        assert not rebuild.done()
    assert rebuild.result() == cache.path(wanted)
    rebuild.close()
