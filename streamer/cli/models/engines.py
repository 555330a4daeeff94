"""The table of engines, for `streamer models list --engines`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rich.markup import escape
from rich.table import Table

from engines.build.cache import EngineCache, Entry
from engines.build.sidecar import TITLES
from engines.build.upkeep import Inspector, State
from streamer.cli.console import note, stdout


def print_engines(cache: EngineCache) -> None:
    entries = cache.entries()
    if not entries:
        note(f"there are no engines in {cache.folder}: `streamer models build` makes one, and so does first use")
        return
    inspect, now = Inspector(), datetime.now(UTC)
    table = Table(box=None, pad_edge=False)
    for column in ("model", "runtime", "precision", "batch", "for", "size", "age", "state"):
        table.add_column(column, overflow="fold", justify="right" if column in ("size", "age") else "left")
    for entry in entries:
        table.add_row(*map(escape, _row(entry, now)), _shown(inspect(entry)))
    stdout.print(table)
    note(f"{len(entries)} in {cache.folder}, {megabytes(sum(entry.sidecar.size for entry in entries))}")


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def named(entry: Entry) -> str:
    """Name an engine as people do: "yolox-s for TensorRT 11.4, fp16, batch 1..8"."""
    told = entry.sidecar.label
    title = TITLES.get(told.runtime, told.runtime)
    return f"{told.model} for {title} {told.identity.version}, {_precision(entry)}, batch {told.order.profile}"


def _row(entry: Entry, now: datetime) -> tuple[str, ...]:
    told = entry.sidecar.label
    return (
        told.model,
        f"{TITLES.get(told.runtime, told.runtime)} {told.identity.version}",
        _precision(entry),
        str(told.order.profile),
        ", ".join(told.order.targets) or told.identity.device,
        megabytes(entry.sidecar.size),
        _age(now - entry.sidecar.created),
    )


def _precision(entry: Entry) -> str:
    """Tell the type the graph has, or, where the runtime chose, the one it computes in; and whether it decodes."""
    recipe = entry.sidecar.label.order.recipe
    typed = recipe.precision if recipe.precision != "fp32" else str(entry.sidecar.facts.get("precision", "fp32"))
    return typed if recipe.layout == "candidates" else f"{typed}, {recipe.layout}"


def _age(age: timedelta) -> str:
    for unit, seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if age.total_seconds() >= seconds:
            return f"{int(age.total_seconds() // seconds)} {unit}"
    return "now"


def _shown(state: State) -> str:
    colour = {"usable": "green", "stale": "yellow", "unknown": "dim"}[state.verdict]
    text = f"{state.verdict}: {state.why}" if state.why else state.verdict
    return f"[{colour}]{escape(text)}[/]"
