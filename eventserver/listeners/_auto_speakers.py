"""The listeners inside of one that finds out what its peers speak: one a protocol, each without endpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from eventserver.framing.auto import AutoFramer
from eventserver.framing.gelf import GelfFramer
from eventserver.interfaces import ListenerContext
from eventserver.listeners._auto_options import AutoOptions
from eventserver.listeners._server import StreamServer
from eventserver.listeners._stream_options import StreamOptions
from eventserver.listeners.fluent import FluentListener
from eventserver.listeners.http import HttpListener
from eventserver.listeners.lumberjack import LumberjackListener
from eventserver.listeners.relp import RelpListener
from eventserver.listeners.stream import StreamListener

#: Objects that were not recognised as GELF may still be, and end with NUL: `AutoFramer` cuts there, too.
_FRAMERS = {"gelf": GelfFramer, "json": AutoFramer, "syslog": AutoFramer, "lines": AutoFramer}
#: What the events of a protocol are decoded with by `auto`; those of the others are looked at.
_DECODERS = {"fluent": "fluent", "lumberjack": "json", "gelf": "gelf", "json": "json", "syslog": "syslog"}
#: Protocols whose events no other decoder reads.
_BOUND = ("fluent", "lumberjack")


def make_speakers(options: AutoOptions, context: ListenerContext) -> dict[str, StreamServer]:
    """A listener for each allowed protocol, by its name. Raises `ValueError` for settings that cannot be used."""
    finding = context.decoder == "auto"
    speakers: dict[str, StreamServer] = {}
    for name in options.protocols:
        if name in _BOUND and not finding:
            raise ValueError(f"decoder: has to be `auto` where `{name}` is among `protocols`")
        batch_context = {**context.batch_context, "protocol": name}
        decoder = _DECODERS.get(name, context.decoder) if finding else context.decoder
        own = dataclasses.replace(context, decoder=decoder, batch_context=batch_context)
        speakers[name] = _speaker(name, options, own)
    return speakers


def _speaker(name: str, options: AutoOptions, context: ListenerContext) -> StreamServer:
    if name == "http":
        return HttpListener(options.http(), context)
    if name == "fluent":
        return FluentListener(options.fluent(), context)
    if name == "relp":
        return RelpListener(options.relp(), context)
    if name == "lumberjack":
        return LumberjackListener(options.lumberjack(), context)
    stream = StreamOptions(**options.common())
    return StreamListener(stream, dataclasses.replace(context, new_framer=_new_framer(name, options)))


def _new_framer(name: str, options: AutoOptions) -> Callable[[], Any]:
    cls: Any = _FRAMERS[name]
    made = cls.Options(max_frame=options.max_frame, oversize=options.oversize)
    return lambda: cls(made)
