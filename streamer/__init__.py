"""Real-time video analytics: cameras in, typed results out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamer.pipeline import Pipeline

__all__ = ["Pipeline", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import what is asked for only then: `import streamer` alone stays light."""
    if name != "Pipeline":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from streamer.pipeline import Pipeline

    return Pipeline
