"""A pipeline file that is edited while the pipeline runs, in every way that editors and deployments have."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from redisworld import eventually
from services import LIVE, plain, running, written

from streamer import config
from streamer.reload import Reloader, obeying, watching
from streamer.service import Change, Service


class Followed:
    """A service whose file is watched, and what was told."""

    def __init__(self, service: Service, path: Path, overrides: Sequence[str] = ()) -> None:
        self.service, self.path, self.told = service, path, list[str]()
        self.applied = 0
        self.reloader = Reloader(path, overrides, self._apply, self.told.append)

    def _apply(self, settings: config.Pipeline) -> Change:
        self.applied += 1
        return self.service.apply(settings)

    @property
    def cameras(self) -> set[str]:
        return set(self.service.cameras())

    def becomes(self, *cameras: str) -> None:
        eventually(lambda: self.cameras == set(cameras), f"cameras {cameras}")


@contextmanager
def following(path: Path, overrides: Sequence[str] = ()) -> Iterator[Followed]:
    with running(config.read(path, overrides)) as service:
        followed = Followed(service, path, overrides)
        with watching(followed.reloader):
            eventually(lambda: followed.applied, "the first look")
            yield followed


def text(*cameras: str, **keys: Any) -> str:
    return yaml.safe_dump(plain(dict.fromkeys(cameras, LIVE), **keys))


def in_place(path: Path, content: str) -> None:
    path.write_text(content)


def by_rename(path: Path, content: str) -> None:
    new = path.with_suffix(".tmp")
    new.write_text(content)
    new.replace(path)


def after_a_moment_without(path: Path, content: str) -> None:
    path.rename(path.with_name(path.name + "~"))
    path.write_text(content)


def in_pieces(path: Path, content: str) -> None:
    with path.open("w") as file:
        for start in range(0, len(content), 40):
            file.write(content[start : start + 40])
            file.flush()


@pytest.mark.parametrize("edit", [in_place, by_rename, after_a_moment_without, in_pieces])
def test_whatever_editors_do(
    edit: Callable[[Path, str], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "p.yaml", {"gate": LIVE})
    with following(path) as followed:
        for cameras in (["gate", "yard"], ["yard"]):
            edit(path, text(*cameras))
            followed.becomes(*cameras)
    assert followed.told == [f"{path}: added yard", f"{path}: removed gate"]
    assert not caplog.records


def test_a_wrong_file_leaves_everything_as_it_is_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "p.yaml", {"gate": LIVE})
    with following(path) as followed:
        path.write_text(text("gate", "b@d", "w:rse"))
        eventually(lambda: len(caplog.records) == 2, "a line for each fault")
        path.touch()
        path.unlink()
        eventually(lambda: len(caplog.records) == 3, "a line about the file that is gone")
        path.write_text(text("gate", limits={"batch": 3}))
        eventually(lambda: len(caplog.records) == 4, "a line about what only a restart can change")
        path.write_text("")
        eventually(lambda: len(caplog.records) == 5, "a line about an empty file")
        assert followed.cameras == {"gate"}
        path.write_text(text("gate", "yard"))
        followed.becomes("gate", "yard")
    said = [record.message for record in caplog.records]
    assert "p.yaml:2: cameras.b@d: is not a name" in said[0]
    assert "w:rse" in said[1]
    assert "No such file" in said[2]
    assert said[3] == f"{path}: limits changed: restart to apply them; nothing was changed"
    assert "nodes changed" in said[4]
    assert followed.told == [f"{path}: added yard"]


def test_what_the_command_line_overrides_stays_overridden(tmp_path: Path) -> None:
    path = written(tmp_path / "p.yaml", {"gate": LIVE})
    other = "synthetic://?size=96x64&fps=9"
    with following(path, [f"cameras.gate.url={other}", "limits.batch=2"]) as followed:
        path.write_text(text("gate", "yard"))
        followed.becomes("gate", "yard")
        assert followed.service.cameras()["gate"].url == other
    assert followed.told == [f"{path}: added yard"]


def test_cameras_that_the_file_never_named_survive_its_edits(tmp_path: Path) -> None:
    path = written(tmp_path / "p.yaml", {"gate": LIVE})
    with following(path) as followed:
        followed.service.add("own", config.Camera(url=LIVE))
        path.write_text(text("yard"))
        followed.becomes("own", "yard")


def test_a_file_behind_links_as_kubernetes_lays_it(tmp_path: Path) -> None:
    def release(name: str, *cameras: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.yaml").write_text(text(*cameras))
        (tmp_path / "coming").symlink_to(name)
        (tmp_path / "coming").replace(tmp_path / "data")

    release("first", "gate")
    path = tmp_path / "p.yaml"
    path.symlink_to("data/p.yaml")
    with following(path) as followed:
        for name, cameras in {"second": ["gate", "yard"], "third": ["yard"]}.items():
            release(name, *cameras)
            followed.becomes(*cameras)
        (tmp_path / "third" / "p.yaml").write_text(text("yard", "garage"))
        followed.becomes("yard", "garage")


def test_a_folder_that_is_swapped_for_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    path = written(folder / "p.yaml", {"gate": LIVE})
    with following(path) as followed:
        shutil.rmtree(folder)
        eventually(lambda: caplog.records, "a line about the folder that is gone")
        folder.mkdir()
        path.write_text(text("gate", "yard"))
        followed.becomes("gate", "yard")
        path.write_text(text("gate"))
        followed.becomes("gate")


def test_other_files_beside_it_are_of_no_concern(tmp_path: Path) -> None:
    path = written(tmp_path / "p.yaml", {"gate": LIVE})
    with following(path) as followed:
        for i in range(200):
            (tmp_path / f"results{i}.jsonl").write_text("…")
        path.write_text(text("gate", "yard"))
        followed.becomes("gate", "yard")
        assert followed.applied == 2


def test_an_edit_between_reading_and_watching_is_not_lost(tmp_path: Path) -> None:
    path = written(tmp_path / "p.yaml", {"gate": LIVE})
    with running(config.read(path)) as service:
        path.write_text(text("gate", "yard"))
        followed = Followed(service, path)
        with watching(followed.reloader):
            followed.becomes("gate", "yard")


def test_reloading_on_request_says_so_even_if_nothing_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "p.yaml", {"gate": LIVE})
    asked = threading.Event()
    asked.set()  # before anybody listens
    with running(config.read(path)) as service:
        followed = Followed(service, path)
        with obeying(followed.reloader, asked):
            eventually(lambda: followed.told == [f"{path}: nothing changed"], "the first reload")
            path.write_text(text("yard"))
            asked.set()
            followed.becomes("yard")
            path.write_text("- no mapping")
            for _ in range(2):
                caplog.clear()
                asked.set()
                eventually(lambda: caplog.records, "the fault, each time that it is asked for")
        assert followed.cameras == {"yard"}
    assert "reload" not in " ".join(thread.name for thread in threading.enumerate())


def test_what_surrounds_a_reload_surrounds_refused_ones_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "p.yaml", {"gate": LIVE})
    steps: list[str] = []

    @contextmanager
    def around() -> Iterator[None]:
        steps.append("in")
        yield
        steps.append("out")

    with running(config.read(path)) as service, caplog.at_level(logging.CRITICAL):
        reloader = Reloader(path, (), service.apply, around=around)
        reloader.reload()
        os.truncate(path, 3)
        reloader.reload()
    assert steps == ["in", "out"] * 2
