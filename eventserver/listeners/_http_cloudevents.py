"""CloudEvents 1.0 over HTTP, as pure functions: requests in structured, batch and binary mode to frames of JSON.

One frame is one CloudEvent in the JSON format, whatever the mode, so one decoder (`cloudevents`) reads them all.
See the CloudEvents specification, its JSON event format, and its HTTP protocol binding (sections 3.1 to 3.3).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from eventserver.listeners._http_refusals import Refusal, malformed

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

_PREFIX = "ce-"
_NAME = re.compile(r"[a-z0-9]+")
_REQUIRED = ("specversion", "id", "source", "type")


class CloudEvent(NamedTuple):
    """One frame, and the key by which a repeat is recognised."""

    frame: bytes
    key: str


class _Required(msgspec.Struct):
    """What every CloudEvent has; the rest is not looked at here."""

    specversion: str = ""
    id: str = ""
    source: str = ""
    type: str = ""


_required_of = msgspec.json.Decoder(_Required)
_any_json = msgspec.json.Decoder(msgspec.Raw)


def is_other_format(media_type: str) -> bool:
    """Whether the media type is a format of CloudEvents that is not read here (Avro, XML, ...)."""
    return media_type.startswith("application/cloudevents") and media_type not in (STRUCTURED, BATCH)


def is_binary(names: Iterable[str]) -> bool:
    """Whether headers of these names (lower case) say that the request is a CloudEvent in binary mode."""
    return "ce-specversion" in names or "ce-id" in names


def structured(frame: bytes) -> CloudEvent:
    """One event in the JSON format, as it came. Raises `Refusal`."""
    try:
        required = _required_of.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"no CloudEvent in JSON: {error}") from None
    _check(required)
    return CloudEvent(frame, key_of(required.source, required.id))


def binary(headers: Mapping[str, str], media_type: str, content_type: str, body: bytes) -> CloudEvent:
    """An event whose attributes are headers, put into the JSON format. Raises `Refusal`.

    `headers` has lower-case names. The body is `data` as JSON, text or base64, as its media type says (JSON format,
    section 3.1); a body without a type is JSON if it can be read as such, else text if it is UTF-8.
    """
    event: dict[str, object] = dict.fromkeys(_REQUIRED, "")
    for name, value in headers.items():
        if not name.startswith(_PREFIX):
            continue
        attribute = name.removeprefix(_PREFIX)
        if not _NAME.fullmatch(attribute) or attribute in ("data", "datacontenttype"):
            raise malformed(f"a CloudEvent has no attribute in a header {name}")
        event[attribute] = _value(name, value)
    _check(msgspec.convert(event, _Required))
    if content_type:
        event["datacontenttype"] = content_type
    if body:
        event |= _data(media_type, body)
    return CloudEvent(msgspec.json.encode(event), key_of(str(event["source"]), str(event["id"])))


def key_of(source: str, event_id: str) -> str:
    """What names one event for ever (specification, section 3.1.1: `source` and `id` together), in 32 characters."""
    text = f"{len(source)}:{source}{event_id}"
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _check(required: _Required) -> None:
    for name in _REQUIRED:
        if not getattr(required, name):
            raise malformed(f"no CloudEvent: `{name}` is missing")
    if required.specversion != "1.0":
        raise malformed(f"CloudEvents {required.specversion[:20]!r} is not read here; 1.0 is")


def _value(name: str, value: str) -> str:
    """An attribute out of its header: quotes undone, percent-decoded once (HTTP binding, section 3.1.3.2)."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode()
    except UnicodeError:
        raise malformed(f"the header {name} is not UTF-8") from None


def _data(media_type: str, body: bytes) -> dict[str, object]:
    is_json = media_type == "application/json" or media_type.endswith("+json")
    if is_json or not media_type:
        try:
            return {"data": _any_json.decode(body)}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if is_json:
                raise malformed(f"the body is no JSON: {error}") from None
    if not media_type or media_type.startswith("text/") or media_type.endswith(("/xml", "+xml", "form-urlencoded")):
        try:
            return {"data": body.decode()}
        except UnicodeDecodeError:
            pass
    return {"data_base64": base64.b64encode(body).decode()}


def refuse_other_format(media_type: str) -> Refusal:
    """415, with what is read."""
    return Refusal(
        415,
        "unsupported",
        f"{media_type} is not read here; {STRUCTURED} and {BATCH} are",
        headers=[("Accept-Post", "*/*")],
    )
