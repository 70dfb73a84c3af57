"""Events back to bytes: JSON lines, raw frames, text for people, templates, and RFC 5424 syslog.

No encoder raises on data, whatever the values of an event: what cannot be written is written as text that says what it
was. All but `raw` give one line an event.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
from zope.interface import implementer

from eventserver import _syslog_output as syslog
from eventserver import options
from eventserver._escaping import escape_text
from eventserver._plain import as_text, plain_event
from eventserver._template import Template, text_of
from eventserver.event import Batch, Event
from eventserver.interfaces import IEncoder, Wants
from eventserver.options import Doc

#: The colour of each severity, by its code: red, yellow, none, dim. Nothing of a peer's is ever part of a sequence.
_COLOURS = ("\x1b[1;31m", "\x1b[1;31m", "\x1b[31m", "\x1b[31m", "\x1b[33m", "\x1b[36m", "\x1b[32m", "\x1b[2m")
_PLAIN = "\x1b[0m"
#: Other names for severities, as programs write them in JSON.
_KEYWORDS = dict(zip(syslog.SEVERITIES, range(8), strict=True))
_KEYWORDS |= {"emergency": 0, "panic": 0, "fatal": 2, "critical": 2, "error": 3, "warn": 4, "trace": 7}


class _LineEncoder:
    """The base of encoders that write a line an event: subclasses say what the line is."""

    wants: Wants = "events"
    wants_raw = False

    def line(self, event: Event) -> str:
        """The line of one event, without its end and without control characters."""
        raise NotImplementedError

    def encode(self, events: Sequence[Event]) -> list[bytes]:
        """One line an event, without its end."""
        try:
            return [self.line(event).encode() for event in events]
        except Exception:  # An event holds what no decoder makes: find out which.
            return [self._safe_line(event) for event in events]

    def encode_lines(self, events: Sequence[Event]) -> bytes:
        """All the events, each as one line that ends with LF."""
        return b"\n".join([*self.encode(events), b""]) if events else b""

    def encode_frames(self, batches: Sequence[Batch]) -> Sequence[bytes]:
        """Not for this encoder: it wants events."""
        raise TypeError(f"{type(self).__name__} encodes events, not frames")

    def _safe_line(self, event: Event) -> bytes:
        try:
            return self.line(event).encode()
        except Exception:
            return escape_text(f"{as_text(event.id)} {as_text(event.message)}").encode(errors="replace")


@implementer(IEncoder)
class JsonEncoder:
    """One JSON object a line: the public form of an event (see `Event`).

    Bytes are base64, numbers that are none are null, keys are texts; what JSON cannot hold (a lone surrogate, an
    object of some class) becomes a text.
    """

    class Options(options.Options, frozen=True, kw_only=True):
        """There are no options."""

    wants: Wants = "events"
    wants_raw = False

    def __init__(self, options: Options) -> None:
        self._encoder = msgspec.json.Encoder()

    def encode(self, events: Sequence[Event]) -> list[bytes]:
        """One JSON object an event."""
        try:
            return list(map(self._encoder.encode, events))
        except Exception:  # msgspec refuses the value of some event: find out which.
            return [self._one(event) for event in events]

    def encode_lines(self, events: Sequence[Event]) -> bytes:
        """All the events as JSON lines."""
        try:
            return self._encoder.encode_lines(events)
        except Exception:  # As above.
            return b"".join([self._one(event) + b"\n" for event in events])

    def encode_frames(self, batches: Sequence[Batch]) -> Sequence[bytes]:
        """Not for this encoder: it wants events."""
        raise TypeError("JsonEncoder encodes events, not frames")

    def _one(self, event: Event) -> bytes:
        try:
            return self._encoder.encode(event)
        except Exception:
            return self._encoder.encode(plain_event(event))


@implementer(IEncoder)
class RawEncoder:
    """The frames as they came, byte for byte.

    A frame may hold anything, LF among it: in a file of lines such a frame is several lines, in a relay with octet
    counting it is itself. An event that has lost its frame gives its message.
    """

    class Options(options.Options, frozen=True, kw_only=True):
        """There are no options."""

    wants: Wants = "frames"
    wants_raw = True

    def __init__(self, options: Options) -> None:
        pass

    def encode(self, events: Sequence[Event]) -> list[bytes]:
        """The frame of each event."""
        return list(map(_raw, events))

    def encode_lines(self, events: Sequence[Event]) -> bytes:
        """The frames, each with LF behind it."""
        return b"\n".join([*map(_raw, events), b""])

    def encode_frames(self, batches: Sequence[Batch]) -> Sequence[bytes]:
        """The frames of the batches."""
        if len(batches) == 1:
            return batches[0].frames
        return [frame for batch in batches for frame in batch.frames]


def one_a_frame(events: Sequence[Event]) -> Sequence[Event]:
    """The events, of several that one frame gave only the first: for what writes the frame itself.

    Those of one frame follow one another.
    """
    if not any("." in event.id for event in events):
        return events
    found: list[Event] = []
    before = ""
    for event in events:
        frame = event.id.partition(".")[0]
        if frame != before:
            found.append(event)
        before = frame
    return found


def _raw(event: Event) -> bytes:
    try:
        raw = event.raw_bytes
        return event.message.encode(errors="surrogatepass") if raw is None else raw
    except Exception:  # A message that is no text, a text that is no Unicode.
        return as_text(event.message).encode(errors="replace")


@implementer(IEncoder)
class TextEncoder(_LineEncoder):
    r"""One line an event for people: `TIME SOURCE SEVERITY MESSAGE`.

    SOURCE is `hostname app_name[procid]`, else the listener and the peer; SEVERITY only where the event has one; an
    event without a message shows its fields. Control characters are shown as `\xNN` and `\uNNNN`.
    """

    class Options(options.Options, frozen=True, kw_only=True):
        """How the text looks."""

        colour: Annotated[bool, Doc("Colour the severity, for terminals.", True)] = False

    def __init__(self, options: Options) -> None:
        self._colour = options.colour

    def line(self, event: Event) -> str:
        """The line of one event."""
        fields = event.fields
        message = event.message or (text_of(fields) if fields else "")
        if event.type == "undecodable":
            message = f"undecodable ({text_of(fields.get('error'))}): {message}"
        return f"{_short_time(event.time)} {escape_text(_source(event))} {self._severity(fields)}{escape_text(message)}"

    def _severity(self, fields: dict[str, Any]) -> str:
        """The severity with a space behind it; nothing where the event has none."""
        keyword, code = fields.get("severity"), fields.get("severity_code")
        if keyword is None and code is None:
            return ""
        number = syslog.code(code, None, syslog.SEVERITIES, -1)
        shown = escape_text(text_of(code if keyword is None else keyword))
        if number < 0:
            number = _KEYWORDS.get(shown.lower(), -1)
        elif keyword is None:
            shown = syslog.SEVERITIES[number]
        return f"{_COLOURS[number]}{shown}{_PLAIN} " if self._colour and number >= 0 else f"{shown} "


def _source(event: Event) -> str:
    hostname, app_name = event.fields.get("hostname"), event.fields.get("app_name")
    if hostname is None and app_name is None:
        return f"{event.listener} {event.peer}"
    procid = event.fields.get("procid")
    program = text_of(app_name) if procid is None else f"{text_of(app_name)}[{text_of(procid)}]"
    return f"{text_of(hostname)} {program}"


def _short_time(time: dt.datetime) -> str:
    text = time.isoformat(timespec="milliseconds")
    if not text.endswith("+00:00"):
        text = time.astimezone(dt.UTC).isoformat(timespec="milliseconds")
    return f"{text[:-6]}Z"


@implementer(IEncoder)
class TemplateEncoder(_LineEncoder):
    r"""A line of your own an event: `template = "{time:%H:%M:%S} {hostname} {fields[app_name]} {message}"`.

    `{name}` is an attribute of the event or a field, `{fields[name]}` and `{context[labels][site]}` an entry,
    `{time:...}` a time in the words of strftime, in UTC; `{{` and `}}` are braces. What is missing is `-`. Control
    characters in values are shown as `\xNN` and `\uNNNN`.
    """

    class Options(options.Options, frozen=True, kw_only=True):
        """The template."""

        template: Annotated[str, Doc("What is written of an event, on one line.", "{time:%H:%M:%S} {peer} {message}")]

        def problems(self) -> Iterable[tuple[str, str]]:
            """A template that is not understood, or has several lines."""
            try:
                Template(self.template, escape_text)
                self.template.encode()
            except ValueError as error:
                yield "template", str(error)
            if any(end in self.template for end in "\n\r"):
                yield "template", "a template is one line; its end is added"

    def __init__(self, options: Options) -> None:
        self._template = Template(options.template, escape_text)

    def line(self, event: Event) -> str:
        """The line of one event."""
        return self._template.render(event)


@implementer(IEncoder)
class SyslogEncoder(_LineEncoder):
    r"""RFC 5424 messages, from the fields that every decoder uses.

    Header fields are printable ASCII of the lengths that section 6 sets: other characters become `_`, and what is too
    long is cut. Control characters in the message and in structured data are shown as `\xNN` and `\uNNNN`, so that no
    framing by lines is broken. The message is UTF-8 without a byte order mark.
    """

    class Options(options.Options, frozen=True, kw_only=True):
        """What is written where an event does not say."""

        facility: Annotated[str, Doc("The facility of events that name none: a keyword.", "local0")] = "user"
        severity: Annotated[str, Doc("The severity of events that name none: a keyword.", "notice")] = "info"

        def problems(self) -> Iterable[tuple[str, str]]:
            """Keywords that are none."""
            for key, known in (("facility", syslog.FACILITIES), ("severity", syslog.SEVERITIES)):
                if getattr(self, key) not in known:
                    yield key, f"{getattr(self, key)!r} is none; there are {', '.join(known)}"

    def __init__(self, options: Options) -> None:
        self._facility = syslog.FACILITIES.index(options.facility)
        self._severity = syslog.SEVERITIES.index(options.severity)

    def line(self, event: Event) -> str:
        """The message of one event."""
        get = event.fields.get
        facility = syslog.code(get("facility_code"), get("facility"), syslog.FACILITIES, self._facility)
        severity = syslog.code(get("severity_code"), get("severity"), syslog.SEVERITIES, self._severity)
        words = f"{syslog.word(get('app_name'), 48)} {syslog.word(get('procid'), 128)} {syslog.word(get('msgid'), 32)}"
        header = f"<{facility * 8 + severity}>1 {syslog.timestamp(event.time)} {syslog.host_of(event)} {words}"
        line = f"{header} {syslog.structured_data(get('structured_data'))}"
        return f"{line} {escape_text(event.message)}" if event.message else line
