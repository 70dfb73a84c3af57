"""Events on standard output."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from eventserver import options
from eventserver.encoders import TextEncoder
from eventserver.handlers._lines import LineWriter
from eventserver.handlers._output import Output
from eventserver.interfaces import HandlerContext, IHandler, Wants
from eventserver.options import Doc

_STANDARD_OUTPUT = 1


@implementer(IHandler)
class ConsoleHandler:
    """Writes one line an event to file descriptor 1, JSON unless told otherwise.

    A reader that is gone or does not read is a temporary failure: the handler waits for it. `fd` and `environment`
    are for tests.
    """

    class Options(options.Options, frozen=True, kw_only=True):
        """How the lines look."""

        format: Annotated[str, Doc("The encoder: `json`, `text`, `raw`, `template`, ...", "text")] = "json"
        colour: Annotated[
            bool | None,
            Doc(
                "Colours with `text`. Default: where standard output is a terminal and the environment has no"
                " NO_COLOR (https://no-color.org).",
                True,
            ),
        ] = None

        def problems(self) -> Iterable[tuple[str, str]]:
            """Only text has colours."""
            if self.colour and self.format != "text":
                yield "colour", f'is for `format = "text"`, not for "{self.format}"'

    parts: ClassVar = {"format": "eventserver.encoders"}

    def __init__(
        self,
        options: Options,
        context: HandlerContext,
        fd: int = _STANDARD_OUTPUT,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._context = context
        self._fd = fd
        encoder = context.parts["format"]()
        if isinstance(encoder, TextEncoder) and options.colour is None:
            coloured = os.isatty(fd) and not environment.get("NO_COLOR")
            encoder = TextEncoder(TextEncoder.Options(colour=coloured))
        writer = LineWriter(encoder, context)
        self.wants: Wants = writer.wants
        self.wants_raw: bool = writer.wants_raw
        self.only_encodes: bool = writer.only_encodes
        self._lines = writer.lines
        self._output: Output | None = None

    @property
    def busy(self) -> bool:
        """True while a write that was given up still runs."""
        return self._output is not None and self._output.busy

    def start(self) -> None:
        """Look at what standard output is. Raises `ValueError` if it is closed."""
        try:
            self._output = Output(self._fd, self._context)
        except OSError as error:
            raise ValueError(f"standard output cannot be written: {error.strerror}") from error
        if self._output.is_null:
            self._context.log.warn(
                "{handler}: standard output is {null} (as it is for a daemon), so nobody sees these events",
                handler=self._context.name,
                null=os.devnull,
            )

    def handle(self, pile: list[Any]) -> Deferred[None] | None:
        """Write the pile; see `IHandler.handle`."""
        assert self._output is not None
        return self._output.write(self._lines(pile))

    def stop(self) -> None:
        """Standard output stays open: it is not ours."""
        if self._output is not None:
            self._output.stop()
