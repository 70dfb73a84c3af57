"""`eventserver run`: the server in the foreground."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def run(words: Sequence[str]) -> int:
    """What `twistd -n eventserver WORDS` does; returns when the server has stopped."""
    from twisted.scripts.twistd import run as twistd

    sys.argv = ["twistd", "--nodaemon", "eventserver", *words]
    twistd()
    return 0
