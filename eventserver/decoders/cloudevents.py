"""CloudEvents 1.0 in the JSON format: one object a frame, or an array of them.

JSON is read as the decoder `json` reads it, with its verdicts for odd things and its limits. Besides:

- `type` becomes the event's type, `time` its time, and `data` its message where it is a text; other data stays in
  `fields`, and the message is its JSON text.
- All other attributes are `fields` under their standard names: `id`, `source`, `specversion`, `subject`,
  `datacontenttype`, `dataschema`, `data_base64`, and extensions.
- An object without `specversion`, `id`, `source` or `type` (texts that are not empty) is undecodable.
"""

from __future__ import annotations

from typing import Annotated

from zope.interface import implementer

from eventserver.decoders._common import DecoderOptions, undecodable_element
from eventserver.decoders.json import JsonDecoder, JsonOptions
from eventserver.event import Batch, Event
from eventserver.interfaces import IDecoder
from eventserver.options import Doc

#: No CloudEvent can have a type like this: it marks those that have none.
_NO_TYPE = "\0"


class CloudEventsOptions(DecoderOptions, frozen=True, kw_only=True):
    """The options of the decoder `cloudevents`; with `event_type`, all events have that type instead of their own."""

    max_depth: Annotated[int, Doc("How deep objects and arrays may be nested.", 64, ge=1, le=200)] = 64
    max_keys: Annotated[int, Doc("How many keys an event may have, nested ones counted.", 1000, ge=1)] = 1000


@implementer(IDecoder)
class CloudEventsDecoder:
    """One event for each CloudEvent."""

    Options = CloudEventsOptions

    def __init__(self, options: CloudEventsOptions | None = None) -> None:
        options = options or CloudEventsOptions()
        self._type = options.event_type
        self._json = JsonDecoder(
            JsonOptions(
                message_key="data",
                time_key="time",
                type_key="type",
                event_type=_NO_TYPE,
                max_depth=options.max_depth,
                max_keys=options.max_keys,
            )
        )

    def decode(self, batch: Batch) -> list[Event]:
        """The events of the batch. Never raises."""
        events = self._json.decode(batch)
        return [self._checked(batch, event) for event in events]

    def _checked(self, batch: Batch, event: Event) -> Event:
        fields = event.fields
        if event.raw_bytes is not None:
            return event  # undecodable: only that sets the raw bytes
        missing = next((name for name in ("specversion", "id", "source") if not _is_text(fields.get(name))), None)
        if missing is None and event.type == _NO_TYPE:
            missing = "type"
        if missing is not None:
            # What was taken out of the object, back in it.
            taken = {"type": event.type, "time": event.time, "data": event.message}
            usual = {"type": _NO_TYPE, "time": batch.received, "data": ""}
            element = {key: value for key, value in taken.items() if value != usual[key]} | fields
            return undecodable_element(batch, event, f"no CloudEvent: `{missing}` is missing", element)
        return event.replace(type=self._type) if self._type else event


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
