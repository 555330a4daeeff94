"""A model run over the clips of videos."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.recognition import Recogniser
from engines.types import Float, Scores
from streamer.cli import complain
from streamer.cli.console import note
from streamer.cli.eval.sampling import Sampled, Sampler
from streamer.cli.eval.videos import Video
from streamer.errors import SourceError
from streamer.exporters.terminal import ProcessProgress

_AHEAD = 2  # videos that are under way: while the model works on one, the next is read


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The videos that were scored, and those that were not."""

    videos: list[Video]
    probs: list[Float]  # (C,) of each, averaged over its clips
    views: list[int]
    short: list[Path]  # that gave no whole clip
    damaged: list[Path]  # of which something could not be read
    unread: list[Path]

    @property
    def complete(self) -> bool:
        """Whether nothing was missing."""
        return not (self.unread or self.damaged)

    def add(self, video: Video, sampled: Sampled, scores: Sequence[Scores]) -> None:
        self.videos.append(video)
        self.probs.append(np.mean([each.probs for each in scores], axis=0, dtype=np.float32))
        self.views.append(len(scores))
        self.short.extend([] if sampled.whole else [video.path])
        self.damaged.extend([video.path] if sampled.lost else [])


def score(model: Recogniser, sampler: Sampler, videos: Sequence[Video], name: str) -> Scored:
    """Score all videos, with a progress bar; those that cannot be read are told and left out. Raises ModelError."""
    scored = Scored([], [], [], [], [], [])
    with ProcessProgress(1) as progress:
        progress.start(name, frames=len(videos))
        for video, sampled, scores in _under_way(model, _sampled(sampler, videos, scored)):
            scored.add(video, sampled, scores)
            progress.advance()
    if scored.short:
        note(
            f"{len(scored.short)} videos have too few pictures for a clip and began again at their end, the first of "
            f"them {scored.short[0]}"
        )
    return scored


def _sampled(sampler: Sampler, videos: Sequence[Video], scored: Scored) -> Iterator[tuple[Video, Sampled]]:
    for video in videos:
        try:
            sampled = sampler(video.path)
        except SourceError as error:
            complain(str(error))
            scored.unread.append(video.path)
            continue
        for detail in sampled.lost:
            complain(f"{video.path}: {detail}")
        yield video, sampled


def _under_way(
    model: Recogniser, sampled: Iterator[tuple[Video, Sampled]]
) -> Iterator[tuple[Video, Sampled, list[Scores]]]:
    """Score videos; the next is read while the model works on one."""
    begun: deque[tuple[Video, Sampled, Callable[[], list[Scores]]]] = deque()
    try:
        for video, each in sampled:
            begun.append((video, each, model.begin(each.clips)))
            if len(begun) == _AHEAD:
                yield _finished(begun.popleft())
        while begun:
            yield _finished(begun.popleft())
    finally:
        for _, _, finish in begun:  # what was started is waited for before the model is closed
            finish()


def _finished(begun: tuple[Video, Sampled, Callable[[], list[Scores]]]) -> tuple[Video, Sampled, list[Scores]]:
    video, sampled, finish = begun
    return video, sampled, finish()
