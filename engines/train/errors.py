"""What may go wrong in training, beside what may go wrong in engines."""

from __future__ import annotations

from engines.errors import EngineError


class TrainingError(EngineError):
    """A training cannot begin, go on, or be trusted."""
