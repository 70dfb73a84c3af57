"""One `[listener.NAME]`: its endpoints, and the components that serve them, with their options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from eventserver import options
from eventserver.options import Options
from eventserver.settings.choosing import Choice, World, choose, refuse_unknown
from eventserver.settings.common import ListenerOptions
from eventserver.settings.endpoints import Endpoint, parse_endpoint
from eventserver.settings.model import Component, ListenerPart, ListenerSettings
from eventserver.settings.tables import Table, parse, read_text

#: How streams are cut by default, by decoder, where that is not "lines".
_USUAL_FRAMINGS = {"syslog": "auto", "auto": "auto", "gelf": "gelf", "msgpack": "msgpack"}


def build_listener(world: World, name: str, table: Table) -> ListenerSettings | None:
    """The listener that a table describes, or None when something is wrong with it (then `world.problems` says what).

    What a listener class may say about itself: `ack_levels`, the levels of `ack` that its protocol can keep (none, if
    it says nothing); `can_reply`, whether what handlers return can go to its peers (yes, if it says nothing); `framed`,
    whether it cuts streams with a framer (all but `datagram`, if it says nothing); `default_decoder`, what its frames
    are decoded with unless the settings say so (`text`, if it says nothing); `datagram_type`, the type that serves its
    endpoints for datagrams (none, if it says nothing).
    """
    before = len(world.problems.found)
    values = table.values
    function = values.get("decoder") if callable(values.get("decoder")) else None
    plain = values if function is None else {k: v for k, v in values.items() if k != "decoder"}
    common: ListenerOptions | None = parse(
        Table(table.source, table.key, dict(plain), table.written), ListenerOptions, world.problems
    )
    endpoints = _endpoints(world, table, "endpoints")
    optional = _endpoints(world, table, "optional_endpoints")
    parts = _parts(world, table, endpoints, optional)
    # What wrong endpoints were meant for, nobody knows: then no key of any type is called unknown.
    uncertain = not parts or any(endpoint is None for _, endpoint in endpoints + optional)
    decoder = choose(world, table, "decoder", "decoders", values.get("decoder", parts[0].decoder if parts else "text"))
    framing, datagram_framing, framing_choices = _framings(world, table, [part.choice for part in parts], uncertain)
    choices = [*(part.choice for part in parts), decoder, *framing_choices]
    if uncertain:
        choices.append(Choice("type", "listeners", "", None))
    refuse_unknown(world, table, ListenerOptions, choices)
    built = _build_parts(world, table, parts)
    made_decoder = decoder.parse(table, world.problems)
    made_framer = framing.parse(table, world.problems)
    made_datagram_framer = None if datagram_framing is None else datagram_framing.parse(table, world.problems)
    multiline = _multiline(world, table, framing in framing_choices)
    ack = _ack(world, table, [part.choice.component for part in parts if part.choice.component is not None])
    if len(world.problems.found) > before or common is None:
        return None
    assert made_decoder is not None
    assert made_framer is not None
    return ListenerSettings(
        name=name,
        parts=tuple(built),
        decoder=made_decoder,
        framer=made_framer,
        datagram_framer=made_datagram_framer,
        multiline=multiline,
        labels=common.labels,
        ack=ack,
        ack_timeout=common.ack_timeout,
    )


#: Endpoints as written, and taken apart; None for one that is wrong.
_Endpoints: TypeAlias = list[tuple[str, Endpoint | None]]


def _endpoints(world: World, table: Table, key: str) -> _Endpoints:
    """The endpoints that a key names."""
    found: _Endpoints = []
    given = table.values.get(key, [])
    if table.written:
        given = read_text(given, list[str])
    for text in given if isinstance(given, list) else ():
        try:
            found.append((text, parse_endpoint(text) if isinstance(text, str) else None))
        except ValueError as error:
            world.problems.add(table, key, str(error))
            found.append((text, None))
    if given == [] and key == "endpoints" and not table.values.get("optional_endpoints"):
        world.problems.add(table, key, 'name at least one endpoint, such as ["tcp:5140", "udp:5140"]')
    return found


@dataclass
class _Part:
    """A type, the endpoints that it serves, and the decoder if the settings name none."""

    choice: Choice
    endpoints: list[str]
    optional: list[str]
    decoder: str = "text"


def _parts(world: World, table: Table, endpoints: _Endpoints, optional: _Endpoints) -> list[_Part]:
    """The types that serve the endpoints: the one that is named, or stream and datagram as they need."""
    named = table.values.get("type")
    if named is not None:
        choice = choose(world, table, "type", "listeners", named)
        decoder = str(getattr(choice.component, "default_decoder", "text"))
        beside = getattr(choice.component, "datagram_type", None)
        if beside is None:
            return [_Part(choice, [text for text, _ in endpoints], [text for text, _ in optional], decoder)]
        kinds = {"stream": choice, "datagram": choose(world, table, "type", "listeners", beside)}
    else:
        decoder = "text"
        kinds = {kind: choose(world, table, "type", "listeners", kind) for kind in ("stream", "datagram")}
    parts = []
    for kind, choice in kinds.items():
        mine, maybe = ([text for text, e in some if e and e.kind == kind] for some in (endpoints, optional))
        if mine or maybe:
            parts.append(_Part(choice, mine, maybe, decoder))
    return parts


def _framed(choice: Choice) -> bool:
    return bool(getattr(choice.component, "framed", choice.name != "datagram"))


def _usual_framing(values: dict[str, Any]) -> str:
    decoder = values.get("decoder")
    if decoder == "graphite" and values.get("protocol") == "pickle":
        return "length"  # no pickle ends at an LF: lines would cut them anywhere
    return _USUAL_FRAMINGS.get(str(decoder), "lines")


def _framings(
    world: World, table: Table, parts: list[Choice], uncertain: bool
) -> tuple[Choice, Choice | None, list[Choice]]:
    """The framing of streams and of datagrams, and which of them may have options in the table."""
    values = table.values
    framing = choose(world, table, "framing", "framers", values.get("framing", _usual_framing(values)))
    allowed: list[Choice] = []
    if uncertain or any(part.component is None or _framed(part) for part in parts):
        allowed.append(framing)
    else:
        for key in ("framing", "multiline"):
            if key in values:
                hint = "; for datagrams there is `datagram_framing`" if key == "framing" else ""
                world.problems.add(table, key, f"is for streams, and this listener has none{hint}")
    if values.get("datagram_framing") is None:
        return framing, None, allowed
    if not uncertain and all(part.name == "stream" for part in parts):
        world.problems.add(table, "datagram_framing", "is for datagrams, and this listener has none; write `framing`")
    inner = choose(world, table, "datagram_framing", "framers", values["datagram_framing"])
    return framing, inner, [*allowed, inner]


def _build_parts(world: World, table: Table, parts: list[_Part]) -> list[ListenerPart]:
    built = []
    for part in parts:
        known = options.field_types(part.choice.options)
        own: dict[str, Any] = {"endpoints": part.endpoints, "optional_endpoints": part.optional}
        made = part.choice.parse(table, world.problems, {key: own[key] for key in own if key in known})
        if made is not None:
            endpoints = (*part.endpoints, *part.optional)
            built.append(
                ListenerPart(name=made.name, component=made.component, options=made.options, endpoints=endpoints)
            )
    return built


def _multiline(world: World, table: Table, streams: bool) -> Component | None:
    given = table.values.get("multiline")
    if not isinstance(given, dict) or not streams:
        return None
    from eventserver.framing.multiline import MultilineFramer

    cls: type[Options] = MultilineFramer.Options
    inner = Table(table.source, f"{table.key}.multiline".lstrip("."), dict(given), table.written)
    known = options.field_types(cls)
    for key in given:
        if key not in known:
            world.problems.add(inner, key, options.unknown(key, known))
    for key in ("max_frame", "oversize"):
        if key in table.values and key not in given:
            inner.values[key] = table.values[key]
    parsed = parse(inner, cls, world.problems)
    return None if parsed is None else Component(name="multiline", component=MultilineFramer, options=parsed)


def _ack(world: World, table: Table, components: list[Any]) -> Any:
    """The level of acknowledgement, or None where the protocol has none."""
    able = [set(levels) for component in components if (levels := getattr(component, "ack_levels", ()))]
    levels = set.intersection(*able) if able else set()
    ack = table.values.get("ack")
    if components and not levels:
        for key in ("ack", "ack_timeout"):
            if key in table.values:
                world.problems.add(
                    table, key, "this type of listener cannot acknowledge: its protocol has no acknowledgement"
                )
        return None
    if ack == "durable" and not world.durable:
        world.problems.add(
            table, "ack", '"durable" needs a journal on disk; without one there are "delivered" and "memory"'
        )
    elif isinstance(ack, str) and ack in ("memory", "durable", "delivered") and levels and ack not in levels:
        world.problems.add(table, "ack", f'"{ack}" is not among {", ".join(sorted(levels))}')
    if ack is None and world.durable and (not levels or "durable" in levels):
        return "durable"
    return ack or "delivered"
