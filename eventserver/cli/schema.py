"""`eventserver schema settings|event`: JSON Schema documents, made from the code."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from eventserver.cli import _printing
from eventserver.event import EVENT_SCHEMA_VERSION, Event
from eventserver.options import Duration, Options, Secret, Size, field_types
from eventserver.registry import ComponentError, Registry
from eventserver.settings.common import AdminOptions, HandlerOptions, JournalOptions, ListenerOptions, ServerOptions

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    dt.datetime: {"type": "string", "format": "date-time"},
}
_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "pattern": "pattern",
}
_EVENT_KEYS = {
    "id": "The same on redelivery and replay; an idempotency key.",
    "time": "When it happened, as its sender said, else `received`. UTC.",
    "received": "When the server read it. UTC.",
    "listener": "The name of the listener that it came in by.",
    "peer": 'Who sent it: "192.0.2.7:51123", "[2001:db8::7]:51123" or "unix:pid=1,uid=0".',
    "type": 'What kind of thing it is: by default the decoder\'s name, "undecodable" if nothing could be read.',
    "message": "The text for people.",
    "fields": "What else the decoder found, by the format's standard names.",
    "context": "What the protocol knew besides, and marks of the frame such as `truncated`. Left out if empty.",
    "raw": "The frame as it came, as text. Only where asked for or where decoding failed.",
    "raw_base64": "The frame as it came, where it is not UTF-8 text. Instead of `raw`.",
}
_LENGTHS = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}


def add_to(commands: Any) -> None:
    """Make the subcommand known."""
    parser = commands.add_parser(
        "schema",
        help="print the JSON Schema of settings files or of events",
        description="Prints a JSON Schema document (draft 2020-12). `settings` describes the TOML files, with the "
        "components that are installed; `event` describes the JSON form of events.",
    )
    parser.add_argument("what", choices=("settings", "event"))
    parser.set_defaults(function=schema)


def schema(arguments: argparse.Namespace) -> int:
    """Print one of the two documents."""
    document = event_schema() if arguments.what == "event" else settings_schema(Registry.from_entry_points())
    _printing.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return 0


def event_schema() -> dict[str, Any]:
    """The JSON form of `Event`."""
    document = msgspec.json.schema(Event)
    event = document["$defs"]["Event"]
    # msgspec counts keys with a default as optional; these two are always written.
    event["required"] = [*event["required"], "message", "fields"]
    for name in ("time", "received"):
        event["properties"][name]["format"] = "date-time"
    for name, description in _EVENT_KEYS.items():
        event["properties"][name].pop("default", None)
        event["properties"][name]["description"] = description
    return {
        "$schema": _DRAFT,
        "$id": f"urn:eventserver:event:{EVENT_SCHEMA_VERSION}",
        "title": "Event",
        "version": EVENT_SCHEMA_VERSION,
        "description": "One event, as the JSON outputs write it: one object a line.",
        **{key: value for key, value in event.items() if key not in ("title", "description")},
    }


def settings_schema(registry: Registry) -> dict[str, Any]:
    """Settings files, with the components that the registry knows."""
    return {
        "$schema": _DRAFT,
        "$id": "urn:eventserver:settings:1",
        "title": "eventserver settings",
        "type": "object",
        "properties": {
            **_properties(ServerOptions),
            "listener": {
                "type": "object",
                "description": "Listeners by name.",
                "additionalProperties": _listener(registry),
            },
            "handler": {
                "type": "object",
                "description": "Handlers by name.",
                "additionalProperties": _handler(registry),
            },
            "journal": table_schema(JournalOptions),
            "admin": table_schema(AdminOptions),
        },
        "additionalProperties": False,
    }


def _classes(registry: Registry, kind: str) -> dict[str, Any]:
    found = {}
    for name in registry.names(kind):
        try:
            component = registry.get(kind, name)
        except ComponentError:
            continue
        if hasattr(component, "Options"):
            found[name] = component
    return found


def _listener(registry: Registry) -> dict[str, Any]:
    """One listener. Which of the keys go together depends on three choices; `eventserver check` looks at that."""
    kinds = ("listeners", "framers", "decoders")
    merged = _merged(component.Options for kind in kinds for component in _classes(registry, kind).values())
    properties = {**merged, **_properties(ListenerOptions)}
    properties["type"] = {**properties["type"], **_names(registry, "listeners")}
    properties["framing"] = {**properties["framing"], **_names(registry, "framers")}
    properties["datagram_framing"] = {**properties["datagram_framing"], **_names(registry, "framers")}
    return {
        "type": "object",
        "properties": properties,
        "anyOf": [{"required": ["endpoints"]}, {"required": ["optional_endpoints"]}],
        "additionalProperties": False,
    }


def _handler(registry: Registry) -> dict[str, Any]:
    """One handler: the keys of its type, chosen by `type` (or by `call`, which means python)."""
    rules = []
    common = _properties(HandlerOptions)
    common["type"] = {**common["type"], **_names(registry, "handlers")}
    for name, component in _classes(registry, "handlers").items():
        kinds: Mapping[str, str] = getattr(component, "parts", {})
        inner = [part.Options for kind in kinds.values() for part in _classes(registry, kind).values()]
        table = table_schema(component.Options)
        table["properties"] = {**_merged(inner), **table["properties"], **common}
        named: dict[str, Any] = {"properties": {"type": {"const": name}}, "required": ["type"]}
        chosen = {"anyOf": [named, {"not": {"required": ["type"]}}]} if name == "python" else named
        rules.append({"if": chosen, "then": table})
    return {
        "type": "object",
        "properties": {"type": common["type"]},
        "anyOf": [{"required": ["type"]}, {"required": ["call"]}],
        "allOf": rules,
    }


def _names(registry: Registry, kind: str) -> dict[str, Any]:
    return {"type": "string", "enum": registry.names(kind)}


def _merged(classes: Iterable[type[Options]]) -> dict[str, Any]:
    """The properties of several options classes; where two differ about a key, either will do."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cls in classes:
        for name, schema in _properties(cls).items():
            choices = found.setdefault(name, [])
            if all(_shape(schema) != _shape(other) for other in choices):
                choices.append(schema)
    return {name: choices[0] if len(choices) == 1 else {"anyOf": choices} for name, choices in found.items()}


def _shape(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in ("description", "examples", "default")}


def table_schema(cls: type[Options]) -> dict[str, Any]:
    """One options class as a table without other keys."""
    required = [field.name for field in msgspec.structs.fields(cls) if field.required]
    table: dict[str, Any] = {"type": "object", "properties": _properties(cls), "additionalProperties": False}
    return {**table, "required": required} if required else table


def _properties(cls: type[Options]) -> dict[str, dict[str, Any]]:
    defaults = {field.name: default_of(field) for field in msgspec.structs.fields(cls)}
    properties = {}
    for name, (hint, meta) in field_types(cls).items():
        schema = hint_schema(hint)
        if meta is not None and meta.description:
            schema["description"] = meta.description
        if meta is not None and meta.examples:
            schema["examples"] = list(meta.examples)
        default = json_value(defaults[name])
        if default is not None:
            schema["default"] = default
        properties[name] = schema
    return properties


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """The default of a field, None if it has none."""
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return None if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def json_value(value: Any) -> Any:
    """A default as settings would write it."""
    if isinstance(value, (Size, Duration)):
        return str(value)
    if isinstance(value, Options):
        return {field: json_value(getattr(value, field)) for field in field_types(type(value))}
    return value


def hint_schema(hint: Any) -> dict[str, Any]:
    """The schema of a type that an option declares."""
    metas: list[msgspec.Meta] = []
    if typing.get_origin(hint) is typing.Annotated:
        metas = [meta for meta in hint.__metadata__ if isinstance(meta, msgspec.Meta)]
        hint = hint.__origin__
    schema = _bare_schema(hint)
    for meta in metas:
        schema |= _bounds(schema, meta)
    return schema


def _bounds(schema: Mapping[str, Any], meta: msgspec.Meta) -> dict[str, Any]:
    # Bounds of sizes and durations are in bytes and seconds, and their values are texts: they cannot be said here.
    custom: Mapping[str, Any] = (meta.extra or {}).get("bounds", {})
    bounds = {**{key: getattr(meta, key) for key in _BOUNDS}, **custom}
    numeric = schema.get("type") in ("integer", "number")
    found = {
        word: bounds[key] for key, word in _BOUNDS.items() if bounds[key] is not None and (numeric or key == "pattern")
    }
    shortest, longest = _LENGTHS.get(str(schema.get("type")), ("", ""))
    if shortest and meta.min_length is not None:
        found[shortest] = meta.min_length
    if longest and meta.max_length is not None:
        found[longest] = meta.max_length
    return found


def _bare_schema(hint: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if isinstance(hint, type) and issubclass(hint, (Size, Duration, Secret)):
        return dict(hint.schema)
    if isinstance(hint, type) and issubclass(hint, Options):
        return table_schema(hint)
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        # TOML has no null: a key that may be nothing is left out.
        choices = [hint_schema(argument) for argument in arguments if argument is not type(None)]
        return choices[0] if len(choices) == 1 else {"anyOf": choices}
    if origin in (list, tuple, set, frozenset):
        return {"type": "array", "items": hint_schema(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": hint_schema(arguments[1])}
    return {}
