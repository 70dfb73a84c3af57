"""What framers and decoders may provide besides, because there is a shorter way: nothing depends on it but time.

As in `eventserver.interfaces`, where they can be imported from as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zope.interface import Attribute, Interface

from eventserver.event import Batch, Event


class ILines(Interface):
    """What a framer may provide besides: the lines of large reads need not be cut before somebody looks at them."""

    def lines(data: bytes) -> Sequence[bytes]:
        """As `IFramer.feed`; what it returns is a list, or `eventserver.blocks.Lines`."""


class IJsonLines(Interface):
    """What a decoder may provide besides, if each frame gives one event: for handlers that only write JSON."""

    def json_lines(batch: Batch) -> bytes | None:
        """Exactly what the encoder `json` writes for the events of the batch. Pure; never raises.

        None where it cannot: the batch is decoded and encoded then.
        """


class IMatch(Interface):
    """A condition on events, for a decoder that can tell whether it holds before it makes them."""

    fields: frozenset[str] | None = Attribute(
        "The fields that it looks at, if it looks at nothing else and is false without them; else None."
    )

    def rows(rows: Sequence[Mapping[str, Any]]) -> list[int] | None:
        """The indexes of the rows for which it is true; a row has those of `fields` that the event has.

        None if it cannot be told. Never raises.
        """

    values: tuple[str, ...] = Attribute("Fields of which it only looks at values, and at nothing else; else empty.")

    def columns(columns: Mapping[str, Sequence[Any]]) -> list[int] | None:
        """As `rows`, by the values of its fields, event by event, for events that have all of `fields`.

        With None for what is not there, where it has `values`.
        """


class ISelecting(Interface):
    """What a decoder may provide besides: it reads a few fields first, and decodes only what a handler wants."""

    def select(
        batch: Batch, match: IMatch, plain: Mapping[str, Any] = {}, to_encode: bool = False
    ) -> list[Event] | None:
        """Exactly those events of the batch for which the condition is true; then with `plain` among their fields.

        Pure; never raises. None where it cannot: the batch is decoded then. A frame that gives no event, or several,
        is such a case. The order of the fields in an event may be another. With `to_encode` the events are encoded and
        nothing else: `fields` may be any object that msgspec encodes as it would the dictionary.
        """
