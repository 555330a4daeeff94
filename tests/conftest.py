"""A cache of the session's own, and real Redis servers.

`redis_url`, `any_redis_url` (each kind of server), `redis_server` (one of the test's own).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from hypothesis import settings

from streamer.embedded import EmbeddedRedis
from streamer.errors import SinkUnusable

settings.register_profile("streamer", deadline=None)  # machines are shared: a slow example is no fault
settings.load_profile("streamer")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests build and download out of the user's cache, and what is there out of the tests."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def _redis_server() -> Path:
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("no redis-server on PATH; install it with: apt install redis-server")
    return Path(found)


@contextmanager
def _running(binary: Callable[[], Path] | None) -> Iterator[str]:
    try:
        with EmbeddedRedis(binary=binary) as server:
            yield server.url
    except SinkUnusable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def _valkey_url() -> Iterator[str]:
    with _running(None) as url:
        yield url


@pytest.fixture(scope="session")
def _redis_url() -> Iterator[str]:
    with _running(_redis_server) as url:
        yield url


@pytest.fixture
def redis_url(_valkey_url: str) -> str:
    """The URL of a running server without any data."""
    return _emptied(_valkey_url)


@pytest.fixture(params=["_valkey_url", "_redis_url"], ids=["valkey", "redis"])
def any_redis_url(request: pytest.FixtureRequest) -> str:
    """What `redis_url` is, for each kind of server."""
    return _emptied(request.getfixturevalue(request.param))


@pytest.fixture
def redis_server() -> Iterator[EmbeddedRedis]:
    """A server of the test's own, to stop and start again."""
    try:
        with EmbeddedRedis() as server:
            yield server
    except SinkUnusable as error:
        pytest.skip(str(error))


def _emptied(url: str) -> str:
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url
