"""A handler from another package: `[handler.NAME]` with `type = "tally"` counts events and keeps the sums in a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
from zope.interface import implementer

from eventserver import options
from eventserver.errors import TemporaryFailure
from eventserver.event import Event
from eventserver.interfaces import HandlerContext, IHandler, Wants
from eventserver.options import Doc


@implementer(IHandler)
class TallyHandler:
    """Counts events by their type. The file holds one JSON object, and is replaced after each pile."""

    class Options(options.Options, frozen=True, kw_only=True):
        """Where the sums are."""

        path: Annotated[str, Doc("The file; sums that it holds are added to.", "/var/lib/tally.json")]

    wants: Wants = "events"
    wants_raw = False

    def __init__(self, options: Options, context: HandlerContext) -> None:
        self._path = Path(options.path)
        self._log = context.log
        self._name = context.name
        self._sums: Counter[str] = Counter()

    def start(self) -> None:
        """Read the sums so far. Raises if the file holds something else: the server does not start then."""
        if self._path.exists():
            self._sums.update(msgspec.json.decode(self._path.read_bytes(), type=dict[str, int]))

    def handle(self, pile: list[Event]) -> None:
        """Add the pile up. The sums count only once they are written, so a pile that comes again counts once."""
        sums = self._sums + Counter(event.type for event in pile)
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            fresh.write_bytes(msgspec.json.encode(dict(sums)))
            fresh.replace(self._path)
        except OSError as error:
            raise TemporaryFailure(f"{self._path}: {error.strerror}") from error
        self._sums = sums

    def stop(self) -> None:
        """Say what came together."""
        self._log.info("{handler}: {sums}", handler=self._name, sums=dict(self._sums))
