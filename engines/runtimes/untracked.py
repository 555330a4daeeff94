"""OpenVINO without its telemetry: everything here that needs `openvino` takes it from this module.

Importing `openvino` imports its converter, and that sends an event to Google Analytics (from a forked child, on a
thread, with a client's id that it keeps in ~/intel) unless somebody has opted out on this machine. Where
`openvino_telemetry` cannot be imported, the converter has a stub that sends nothing; so it cannot be. Seen in openvino
2026.4, `tools/ovc/__init__.py`.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is how Python says "never import"

import openvino as ov  # noqa: E402 - only now

__all__ = ["ov"]
