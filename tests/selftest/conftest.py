"""What all tests of the self-test share: small films, a Redis, and models that know the truth."""

from __future__ import annotations

from collections.abc import Iterator

import oracles
import pytest

from streamer.embedded import EmbeddedRedis
from streamer.selftest.expected import Expected
from streamer.selftest.films import Footage, shoot
from streamer.selftest.lineup import Lineup
from streamer.selftest.record import record
from streamer.selftest.recorded import Place


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Footage, ...]:
    return shoot(oracles.FILMS, tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with EmbeddedRedis() as server:
        yield server.url


@pytest.fixture
def place(redis_url: str, request: pytest.FixtureRequest) -> Place:
    return Place(redis_url, f"{request.node.name}:")


@pytest.fixture(scope="session")
def lineup(tmp_path_factory: pytest.TempPathFactory) -> Lineup:
    return oracles.lineup(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def recorded(footage: tuple[Footage, ...], lineup: Lineup, redis_url: str) -> Expected:
    """What the oracles reach, as the figures of the real models are recorded."""
    with pytest.MonkeyPatch.context() as patch:
        oracles.install(patch, footage)
        return record(footage, lineup, Place(redis_url, "recorded:"), lambda _: None)


@pytest.fixture(autouse=True)
def oracle(footage: tuple[Footage, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    oracles.install(monkeypatch, footage)
