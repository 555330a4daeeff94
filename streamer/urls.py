"""URLs as people may see them."""

from __future__ import annotations

import re

# Up to the last "@", whatever is between: a password may hold characters that it should not.
_LOGIN = re.compile(r"(?<=://).*@")
_SECRET = re.compile(r"(?i)([?&](?:\w*pass\w*|pwd|\w*token|\w*key|secret|auth)=)[^&#]*")


def redact(url: str) -> str:
    """Hide user name and password: the only form in which a URL may reach a log, a message or a screen."""
    return _SECRET.sub(r"\1***", _LOGIN.sub("***@", url))
