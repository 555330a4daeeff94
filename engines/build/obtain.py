"""The engine that an order asks for: from the cache, or built on first use."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from engines.build import BUILDERS, open_builder
from engines.build.base import PORTABLE, Builder, Material, Order, Tell, silent
from engines.build.cache import EngineCache, Entry, Fault, Lookup
from engines.build.sidecar import TITLES, Label, label


def obtain(material: Material, runtime: str, order: Order, cache: EngineCache, tell: Tell = silent) -> Path:
    """Find what a runtime opens, building it where there is none or none that fits; `tell` hears why, and how long.

    A runtime without a builder opens the served graph itself. Raises RuntimeUnavailable, ModelError and BuildError.
    """
    if runtime not in BUILDERS:
        return material.graph(order.recipe)
    builder = open_builder(runtime)
    wanted = label(material, runtime, order, builder.identity(order))
    return (
        cache.find(wanted, builder.fault).path
        or brought(wanted, cache, builder.fault)
        or _build_once(builder, material, wanted, cache, tell)
    )


def lookup(material: Material, runtime: str, order: Order, cache: EngineCache) -> Lookup:
    """Look for an engine, and build none. Raises RuntimeUnavailable."""
    builder = open_builder(runtime)
    return cache.find(label(material, runtime, order, builder.identity(order)), builder.fault)


def stale(material: Material, runtime: str, order: Order, cache: EngineCache) -> Entry | None:
    """Find the engine that was built for this order and no longer fits: what is due is a rebuild, not a first build.

    None where one fits, or none was ever built. Raises RuntimeUnavailable.
    """
    if runtime not in BUILDERS:
        return None
    builder = open_builder(runtime)
    wanted = label(material, runtime, order, builder.identity(order))
    if cache.find(wanted, builder.fault).path or brought(wanted, cache, builder.fault):
        return None
    return next((entry for entry in cache.entries() if entry.sidecar.label.same_order(wanted)), None)


def brought(wanted: Label, cache: EngineCache, fault: Fault) -> Path | None:
    """Find an engine that was built elsewhere for GPUs like the one here, or for all of them (TensorRT-RTX)."""
    if wanted.order.targets:
        return None
    capability = wanted.identity.device.rpartition(" ")[2]
    for entry in cache.entries():
        had = entry.sidecar.label
        here = replace(
            had,
            order=replace(had.order, targets=()),
            identity=replace(had.identity, device=wanted.identity.device),
        )
        fits = had.identity.device == PORTABLE or capability in had.identity.device.split("+")
        if fits and here == wanted and (path := cache.find(had, fault).path):
            return path
    return None


def _build_once(builder: Builder, material: Material, wanted: Label, cache: EngineCache, tell: Tell) -> Path:
    if cache.busy(wanted):
        tell(f"waiting for another process, which builds {wanted.model} for {TITLES[wanted.runtime]}")
    with cache.building(wanted):
        found = cache.find(wanted, builder.fault)
        if found.path:  # another process has built it while this one waited
            return found.path
        tell(f"building {wanted.model} for {TITLES[wanted.runtime]}: {found.why}")
        return _build(builder, material, wanted, cache, tell)


def _build(builder: Builder, material: Material, wanted: Label, cache: EngineCache, tell: Tell) -> Path:
    start = time.monotonic()
    built = builder.build(material, wanted.order, tell)
    seconds = time.monotonic() - start
    path = cache.put(wanted, material, built, seconds)
    tell(f"built {wanted.model} in {seconds:.1f} s, {len(built.data) / 1e6:.1f} MB: {path}")
    return path
