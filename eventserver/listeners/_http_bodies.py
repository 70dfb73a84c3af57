"""A request's body to frames, as its media type says. Pure: bytes in, frames out, or a refusal.

| media type | frames |
|---|---|
| `application/x-ndjson` (also `application/ndjson`, `application/jsonl`) | one a line; blank lines are none |
| `application/json`, and the body is an array | one an element, its bytes as they are |
| `application/cloudevents+json`, or headers `ce-...` | one CloudEvent |
| `application/cloudevents-batch+json` | one a CloudEvent |
| anything else | the body is one |

What is inside a frame is a decoder's business, and not looked at; but an array has to be one, and a CloudEvent too.
A request is taken whole or not at all: a frame that is too large refuses its neighbours, and its sender is told which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from eventserver.listeners import _http_cloudevents as cloudevents
from eventserver.listeners._http_refusals import malformed, oversize

_LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
_SPACE = b" \t\r\n"
#: An array may have this many times `max_frames` commas, those inside its elements counted: no more is unpacked.
_COMMAS = 20

_array = msgspec.json.Decoder(list[msgspec.Raw])


class Limits(NamedTuple):
    """`max_frame`: bytes of one frame; `max_frames`: frames of one request."""

    max_frame: int
    max_frames: int


class Cut(NamedTuple):
    """The frames of a request, and for CloudEvents the key of each."""

    frames: list[bytes]
    keys: list[str] | None = None


def media_type_of(content_type: str) -> str:
    """`application/json` out of `Application/JSON; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower()


def cut(body: bytes, content_type: str, headers: Mapping[str, str], limits: Limits) -> Cut:
    """The frames of a request; `headers` has lower-case names. Raises `Refusal`."""
    media_type = media_type_of(content_type)
    if media_type == cloudevents.STRUCTURED:
        found = _events([cloudevents.structured(body.strip(_SPACE))])
    elif media_type == cloudevents.BATCH:
        found = _events([cloudevents.structured(frame) for frame in _elements(body, limits)])
    elif cloudevents.is_binary(headers):
        found = _events([cloudevents.binary(headers, media_type, content_type, body)])
    elif media_type in _LINES:
        found = Cut(_lines(body, limits))
    elif media_type == "application/json" and body.lstrip(_SPACE)[:1] == b"[":
        found = Cut(_elements(body, limits))
    elif not body:
        raise malformed("the body is empty")
    else:
        found = Cut([body])
    for number, frame in enumerate(found.frames):
        if len(frame) > limits.max_frame:
            raise oversize(f"event {number} has {len(frame)} bytes; at most {limits.max_frame} are taken (max_frame)")
    return found


def _events(events: list[cloudevents.CloudEvent]) -> Cut:
    return Cut([event.frame for event in events], [event.key for event in events])


def _lines(body: bytes, limits: Limits) -> list[bytes]:
    if body.count(b"\n") > limits.max_frames:
        raise _too_many(limits)
    lines = (line.removesuffix(b"\r") for line in body.split(b"\n"))
    frames = [line for line in lines if line and not line.isspace()]
    if len(frames) > limits.max_frames:
        raise _too_many(limits)
    return frames


def _elements(body: bytes, limits: Limits) -> list[bytes]:
    # Counted first: of an array of numbers each element would take thirty times its size.
    if body.count(b",") > _COMMAS * limits.max_frames:
        raise _too_many(limits)
    try:
        elements = _array.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"the body is no array in JSON: {error}") from None
    if len(elements) > limits.max_frames:
        raise _too_many(limits)
    return [bytes(element) for element in elements]


def _too_many(limits: Limits) -> Exception:
    return oversize(f"more than {limits.max_frames} events in one request (max_frames)")
