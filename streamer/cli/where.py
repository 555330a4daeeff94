"""Where a command finds the Redis of a pipeline that runs."""

from __future__ import annotations

import argparse
import os


def add_redis(parser: argparse.ArgumentParser) -> None:
    """Let a command be told which Redis, and the prefix of the keys in it."""
    parser.add_argument(
        "--redis",
        default=usual_redis(),
        metavar="URL",
        help="default: $REDIS_URL, or redis://localhost:6379/0",
    )
    parser.add_argument("--prefix", default="streamer:", help="of the keys (default: %(default)s)")


def usual_redis() -> str:
    """Return the URL of the Redis that is meant where none is named."""
    return os.environ.get("REDIS_URL", "redis://localhost:6379/0")
