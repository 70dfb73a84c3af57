"""What a handler's function returns, on its way to the sender."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eventserver.errors import CONNECTION_ERRORS, PartialFailure, PermanentFailure
from eventserver.event import Event
from eventserver.interfaces import HandlerContext


class Answers:
    """Sends what the function called `call` returns, where replies are on; `on_error` for events that failed.

    A reply that cannot be sent is a `PermanentFailure`: to call the function again would do its work twice.
    """

    def __init__(self, call: str, on_error: str | None, context: HandlerContext) -> None:
        self._call = call
        self._on_error = None if on_error is None else on_error.encode()
        self._context = context
        self._told = False

    def give(self, event: Event, reply: object) -> None:
        """Send the reply for one event; None sends nothing. Raises `PermanentFailure`."""
        if reply is None:
            return
        if self._context.replies:
            self._context.reply(event, self._payload(reply))
        else:
            self._ignore()

    def give_all(self, pile: Sequence[Event], replies: object) -> None:
        """Send the replies of a pile, in order; None sends nothing.

        Raises `PermanentFailure` if they are not one for each event, `PartialFailure` for those that cannot be sent.
        """
        if replies is None:
            return
        if not self._context.replies:
            self._ignore()
            return
        if not isinstance(replies, (list, tuple)) or len(replies) != len(pile):
            found = f"{len(replies)}" if isinstance(replies, (list, tuple)) else type(replies).__name__
            raise PermanentFailure(f"`{self._call}` must return a list of {len(pile)} replies, and returned {found}")
        errors: dict[str, BaseException] = {}
        for event, reply in zip(pile, replies, strict=True):
            try:
                self.give(event, reply)
            except PermanentFailure as error:
                errors[event.id] = error
        if errors:
            raise PartialFailure(errors)

    def apologise(self, event: Event) -> None:
        """Send `on_error_reply` for an event that failed, if there is one."""
        if self._on_error is not None and self._context.replies:
            self._context.reply(event, self._on_error)

    def apologise_all(self, pile: Sequence[Event], error: BaseException) -> None:
        """Answer the senders of those events of a failed pile that are known to have failed.

        Without names, that is a pile of one: delivery looks for the culprit of a larger one event by event.
        """
        if isinstance(error, PartialFailure):
            for event in pile:
                if event.id in error.errors and not isinstance(error.errors[event.id], CONNECTION_ERRORS):
                    self.apologise(event)
        elif len(pile) == 1 and not isinstance(error, CONNECTION_ERRORS):
            self.apologise(pile[0])

    def _payload(self, reply: object) -> bytes:
        try:
            if isinstance(reply, str):
                return reply.encode()
            if isinstance(reply, (bytes, bytearray, memoryview)):
                return bytes(reply)
            if isinstance(reply, dict):
                return msgspec.json.encode(reply)
        except Exception as error:
            raise PermanentFailure(f"the reply of `{self._call}` cannot be encoded: {error}") from error
        raise PermanentFailure(f"`{self._call}` returned {type(reply).__name__}; a reply is str, bytes, dict or None")

    def _ignore(self) -> None:
        if not self._told:
            self._told = True
            self._context.log.info(
                "{handler}: what {call} returns goes nowhere, as replies are off here",
                handler=self._context.name,
                call=self._call,
            )
