"""Everything that may go wrong in engines, one tree.

    EngineError
    ├── ManifestError         a model's manifest is missing or wrong
    ├── WeightsError          the weights cannot be had: absent, offline, or not the promised bytes
    ├── RuntimeUnavailable    the backend is not installed, or does not work on this machine
    ├── ModelError            the backend refuses the network, or the network refuses its input
    └── BuildError            no engine or graph can be made of a network

Each message is one sentence that says what, where and what to do next. Foreign exceptions are
translated where the foreign library is called and nowhere else.
"""

from __future__ import annotations


class EngineError(Exception):
    """The root: catch this to catch them all."""


class ManifestError(EngineError):
    """A model's manifest is missing or wrong."""


class WeightsError(EngineError):
    """A model's weights cannot be had, or are not the bytes the manifest promises."""


class RuntimeUnavailable(EngineError):  # noqa: N818 - named for what it is; "Error" would add nothing
    """A backend is not installed or does not work on this machine."""


class ModelError(EngineError):
    """A backend refuses a network, or a network its input."""


class BuildError(EngineError):
    """No engine, or no graph, can be made of a network."""
