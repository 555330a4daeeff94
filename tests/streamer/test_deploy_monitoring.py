"""The Prometheus and Grafana files load as they are, and ask only for what there is.

Grafana itself has not been run on the dashboard; its JSON went through the typed model of grafana-foundation-sdk.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from figures import complete, everything, feed
from prometheus_client.parser import text_string_to_metric_families as parse
from redisworld import eventually

from streamer.exporters.http import serving
from streamer.exporters.prometheus import exposition
from streamer.health import Health, health_of
from streamer.monitor import Monitor
from streamer.stats import Stats

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROMETHEUS, GRAFANA = DEPLOY / "prometheus", DEPLOY / "grafana"
HINT = "is not on PATH; install it with: apt install prometheus"

_METRIC = re.compile(r"\b(?:streamer|process)_[a-z_]+")
_SELECTOR = re.compile(r"\b((?:streamer|process)_[a-z_]+)\{([^}]*)\}")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((GRAFANA / "dashboard.json").read_text())
    return read


def queries() -> list[str]:
    """Every expression of the dashboard."""
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def expressions() -> list[str]:
    annotations = [one["expr"] for one in dashboard()["annotations"]["list"] if "expr" in one]
    variables = [one["definition"] for one in dashboard()["templating"]["list"] if "definition" in one]
    return [*queries(), *annotations, *variables, *(rule["expr"] for rule in rules())]


def exposed() -> dict[str, set[str]]:
    """The names of all series that there are, and the labels of each; Prometheus adds two of its own."""
    page, _ = exposition(everything(), Health(True, True))
    samples = [sample for family in parse(page.decode()) for sample in family.samples]
    labels: dict[str, set[str]] = {}
    for sample in samples:
        labels.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
    return labels


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} {HINT}")
    return found


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("promtool"), *words], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60)


def test_every_metric_that_is_asked_for_is_exposed() -> None:
    there = exposed()
    asked = set(chain.from_iterable(map(_METRIC.findall, expressions())))
    assert len(asked) > 25
    assert asked <= there.keys()


def test_every_label_that_is_asked_for_is_one_of_that_metric_s() -> None:
    there = exposed()
    selectors = [selector for expression in expressions() for selector in _SELECTOR.findall(expression)]
    assert len(selectors) > 40
    wrong = [
        (name, label) for name, inside in selectors for label in _LABEL.findall(inside) if label not in there[name]
    ]
    assert wrong == []


def test_every_legend_names_labels_that_its_query_leaves() -> None:
    any_label = set.union(*exposed().values())
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            grouped = re.search(r"by \(([\w, ]+)\)", target["expr"])
            left = set(grouped[1].replace(" ", "").split(",")) if grouped else any_label
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= left, panel["title"]


def test_every_alert_says_how_bad_what_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"]["summary"].rstrip().endswith("."), rule["alert"]
        assert len(rule["annotations"]["description"]) > 100, rule["alert"]


def test_every_alert_has_a_test() -> None:
    tested = (PROMETHEUS / "alerts_test.yml").read_text()
    assert [rule["alert"] for rule in rules() if rule["alert"] not in tested] == []


@pytest.mark.parametrize(
    "words",
    [("check", "rules", "alerts.yml"), ("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")],
    ids=" ".join,
)
def test_promtool_is_content(words: tuple[str, ...]) -> None:
    done = promtool(*words)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_to_say_about_the_exposition() -> None:
    page, _ = exposition(everything(), Health(True, True))
    done = subprocess.run([tool("promtool"), "check", "metrics"], input=page, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr + done.stdout) == (0, b"")


def test_the_dashboard_is_whole() -> None:
    board = dashboard()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y) for panel in panels for x, y in _cells(panel)]
    assert len(set(places)) == len(places), "panels overlap"
    assert max(x for x, _ in places) == 23
    variables = {one["name"] for one in board["templating"]["list"]}
    assert variables == {"datasource", "instance", "camera"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board))) - {"__rate_interval", "__all"}
    assert used == variables
    assert {p["datasource"]["uid"] for p in panels if p["type"] != "row"} == {"${datasource}"}


def _cells(panel: dict[str, Any]) -> Iterator[tuple[int, int]]:
    return ((x, y) for x in range(panel["gridPos"]["w"]) for y in range(panel["gridPos"]["h"]))


def test_grafana_is_told_where_both_are() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/streamer.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/streamer.yaml").read_text())["providers"]
    assert (source["type"], provider["type"]) == ("prometheus", "file")


# --- a real Prometheus ---


class Api:
    """What Prometheus's HTTP interface answers."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def get(self, path: str, **query: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self._url}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None  # it is starting

    def query(self, expression: str) -> list[Any]:
        told = self.get("query", query=expression)
        assert told is not None, f"Prometheus refuses {expression}"
        return list(told["result"])

    def scraped(self) -> int:
        return len(
            ((self.get("query", query='up{job="streamer"}[1m]') or {}).get("result") or [{}])[0].get("values", ())
        )


@contextmanager
def prometheus(folder: Path, target: tuple[str, int]) -> Iterator[Api]:
    """Run Prometheus with our own files, but quicker, and looking at *target*."""
    settings = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s"}
    settings["scrape_configs"][0]["static_configs"][0]["targets"] = [f"{target[0]}:{target[1]}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    shutil.copy(PROMETHEUS / "alerts.yml", folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    words = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    words += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with subprocess.Popen([tool("prometheus"), *words], stderr=subprocess.PIPE) as process:
        try:
            yield Api(port)
        finally:
            process.terminate()


def test_a_real_prometheus_scrapes_it_and_answers_every_question_of_the_dashboard(tmp_path: Path) -> None:
    tool("prometheus")
    monitor = Monitor({}, target=0.15)

    def read() -> Stats:
        feed(monitor)  # something happens between two scrapes
        return complete(monitor.stats())

    def health() -> Health:
        return health_of(complete(monitor.stats()), {"stage yolo": 34.0}, 30.0)

    with serving(("127.0.0.1", 0), read, health) as at, prometheus(tmp_path, at) as api:
        eventually(lambda: api.scraped() >= 3, "three scrapes")
        (up,) = api.query("up")
        assert (up["metric"]["job"], up["value"][1]) == ("streamer", "1")
        silent = [query for query in map(filled, queries()) if not api.query(query)]
        assert silent == []
        loaded = {rule["name"] for group in api.get("rules")["groups"] for rule in group["rules"]}
        eventually(lambda: "StreamerHanging" in alerts(api), "an alert about the stage that hangs")
    assert loaded == {rule["alert"] for rule in rules()}


def alerts(api: Api) -> set[str]:
    """Those that wait out their time included."""
    return {alert["labels"]["alertname"] for alert in api.get("alerts")["alerts"]}


def filled(query: str) -> str:
    """Put in what Grafana does."""
    return query.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$camera", ".*")
