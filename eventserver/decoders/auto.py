"""Frames of several formats, each decoded as what it is: syslog, GELF, CloudEvents, JSON or text.

What a frame is, its first bytes say, and of a JSON object its keys: see `eventserver.decoders._kinds`. Nothing that
came before matters, so that the same frame always gives the same event. Listeners that know more (`type = "auto"`)
write the decoder that they found into their batches; those are decoded by it, and not by this one.
"""

from __future__ import annotations

from typing import Annotated, Any

from zope.interface import implementer

from eventserver import options as settings
from eventserver.decoders._kinds import runs
from eventserver.decoders.cloudevents import CloudEventsDecoder
from eventserver.decoders.fluent import FluentDecoder
from eventserver.decoders.gelf import GelfDecoder
from eventserver.decoders.json import JsonDecoder
from eventserver.decoders.syslog import SyslogDecoder, SyslogOptions
from eventserver.decoders.text import TextDecoder
from eventserver.event import Batch, Event
from eventserver.interfaces import IDecoder
from eventserver.options import Doc

_CLASSES: tuple[tuple[str, Any], ...] = (
    ("syslog", SyslogDecoder),
    ("gelf", GelfDecoder),
    ("cloudevents", CloudEventsDecoder),
    ("json", JsonDecoder),
    ("text", TextDecoder),
    ("fluent", FluentDecoder),
)


class AutoOptions(SyslogOptions, frozen=True, kw_only=True):
    """The options of the decoder `auto`; each goes to those decoders that have one of its name."""

    encoding: Annotated[str, Doc("The encoding of the text of syslog and lines, by its name in Python.", "latin-1")] = (
        "utf-8"
    )
    message_key: Annotated[str, Doc("The key of JSON that holds the message; empty: none does.", "msg")] = "message"
    time_key: Annotated[str, Doc("The key of JSON that holds the time; empty: none does.", "@timestamp")] = "time"
    type_key: Annotated[str, Doc("The key of JSON that holds the event's type; empty: none does.", "event")] = "type"
    max_depth: Annotated[int, Doc("How deep objects and arrays may be nested.", 64, ge=1, le=200)] = 64
    max_keys: Annotated[int, Doc("How many keys an event may have, nested ones counted.", 1000, ge=1)] = 1000


@implementer(IDecoder)
class AutoDecoder:
    """The events of each frame, by the decoder that it is for.

    `choices` are the decoders by name: whoever builds a server has them decode the batches that carry their names.
    """

    Options = AutoOptions

    def __init__(self, options: AutoOptions | None = None) -> None:
        options = options or AutoOptions()
        given = {name: getattr(options, name) for name in settings.field_types(AutoOptions)}
        self.choices: dict[str, Any] = {}
        for name, cls in _CLASSES:
            own = settings.field_types(cls.Options)
            self.choices[name] = cls(cls.Options(**{key: value for key, value in given.items() if key in own}))

    def decode(self, batch: Batch) -> list[Event]:
        """The events of the batch. Never raises."""
        found = runs(batch.frames)
        if len(found) == 1:
            return self._decode(found[0][0], batch)
        return [event for kind, start, end in found for event in self._decode(kind, batch.part(start, end))]

    def _decode(self, kind: str, batch: Batch) -> list[Event]:
        events: list[Event] = self.choices[kind].decode(batch)
        return events
