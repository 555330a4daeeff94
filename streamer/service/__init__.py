"""A pipeline file at work: what `streamer run` and Python programs have in common."""

from streamer.service.change import Change
from streamer.service.service import Hosting, Phase, Service
from streamer.service.session import Session

__all__ = ["Change", "Hosting", "Phase", "Service", "Session"]
