"""Marks for the export: what of a network is float32 in any precision, and what may be a half again within it."""

from __future__ import annotations

from torch import nn


class Exact(nn.Module):
    """What counts pixels: it computes in float32, whatever is around it, for a half holds none beyond 512."""


class Inexact(nn.Module):
    """What may be a half although it is part of what is `Exact`."""
