"""Sources, nodes and sinks of other packages, by the names of their entry points.

| group              | name            | what it is                                                                  |
|--------------------|-----------------|-----------------------------------------------------------------------------|
| `streamer.sources` | scheme of a URL | a function (camera, address, options, observer) -> Source                   |
| `streamer.nodes`   | kind            | a class as for `kind: python`, or a `config.Node` with open(name) -> Stage  |
| `streamer.sinks`   | kind            | a `config.Publish` with open(outlet) -> Sink                                |
| `streamer.decoders`| kind            | a class for what a network gives, see `engines.decoders.own`                |

What comes with us is found first. Nothing of another package is imported before it is named.
"""

from __future__ import annotations

from typing import Any, Literal

from engines import plugins
from streamer.errors import ConfigError

Group = Literal["streamer.sources", "streamer.nodes", "streamer.sinks"]


def offered(group: Group) -> tuple[str, ...]:
    """List the names that packages offer in a group."""
    return plugins.offered(group)


def offers(group: Group, name: str) -> bool:
    """Tell whether a package offers something under this name."""
    return plugins.offers(group, name)


def load(group: Group, name: str) -> Any:
    """Import what a package offers under this name; None where none does.

    Raises ConfigError, one sentence that says which package is at fault.
    """
    try:
        return plugins.load(group, name)
    except plugins.PluginFault as error:
        raise ConfigError(str(error)) from error


def unfit(group: Group, name: str, why: str) -> ConfigError:
    """Make the error of something that a package offers and that is not what its group asks for."""
    return ConfigError(f"{name!r} comes with {plugins.package_of(group, name)}, but {why}; mend that package")
