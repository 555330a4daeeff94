"""Everything that may go wrong in the streamer, one tree.

    StreamerError
    ├── InputError            wrong input, found before anything starts            exit code 2
    │   ├── ConfigError       the pipeline file or a --set is wrong
    │   └── GraphError        the nodes do not form a graph
    ├── SourceError           a source cannot be opened or broke off               retried when live
    │   └── SourceUnusable    and never will: no such file, not a video            exit code 2
    └── SinkError             results cannot be written                            retried when live
        └── SinkUnusable      and never will: wrong password, output in use        exit code 2

What a stage raises is not wrapped: it stops the pipeline and is raised again as it is.
Each message is one sentence that says what, where and what to do next; no message holds a password.
"""

from __future__ import annotations


class StreamerError(Exception):
    """The root: catch this to catch them all."""


class InputError(StreamerError):
    """Wrong input, found before anything starts."""


class ConfigError(InputError):
    """The pipeline file, or a --set, is wrong."""


class GraphError(InputError, ValueError):
    """The nodes do not form a graph; where one of them is at fault, *node* is its name."""

    def __init__(self, sentence: str, node: str | None = None) -> None:
        super().__init__(sentence if node is None else f"{node}: {sentence}")
        self.sentence, self.node = sentence, node


class SourceError(StreamerError):
    """A source cannot be opened, or broke off. A live one is tried again."""


class SourceUnusable(SourceError):  # noqa: N818 - named for what it is; "Error" would add nothing
    """A source that trying again cannot mend: no such file, not a video."""


class SinkError(StreamerError):
    """Results cannot be written. A live pipeline tries again."""


class SinkUnusable(SinkError):  # noqa: N818 - named for what it is; "Error" would add nothing
    """A sink that trying again cannot mend: password refused, output in use."""
