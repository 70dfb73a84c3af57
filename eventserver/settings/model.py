"""Settings as plain data, checked: what the service builds a server from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eventserver.interfaces import AckLevel, IStep
from eventserver.options import Duration, Options, Size
from eventserver.settings.common import AdminOptions, JournalOptions, PileOptions, RetryOptions, ServerOptions
from eventserver.steps import build_step

_THIRTY_SECONDS = Duration(30)


@dataclass(frozen=True, kw_only=True)
class Component:
    """A component and its options: `name` is what the settings call it.

    `options` is None for a plain function, which is then `component` itself.
    """

    name: str
    component: Any
    options: Options | None

    def make(self, *args: Any) -> Any:
        """A new framer, decoder, encoder, listener or handler: the class called with the options, and what follows."""
        return self.component(self.options, *args)

    def make_pure(self) -> Any:
        """A new framer, encoder or decoder; round a plain function, a decoder that calls it."""
        if self.options is not None:
            return self.make()
        from eventserver.decoders.function import FunctionDecoder

        return FunctionDecoder(self.component, self.name)


@dataclass(frozen=True, kw_only=True)
class ListenerPart(Component):
    """The endpoints of a listener that one type serves; `options.endpoints` has the same."""

    endpoints: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ListenerSettings:
    """One `[listener.NAME]`. It has a part for each type that its endpoints need (stream and datagram).

    - `decoder`: its `component` is a function where the settings say `module:function`.
    - `framer`: for streams; `multiline` goes round it. `datagram_framer`: for the inside of datagrams, or None.
    - `ack`: None where the listener cannot acknowledge.
    """

    name: str
    parts: tuple[ListenerPart, ...]
    decoder: Component
    framer: Component
    datagram_framer: Component | None = None
    multiline: Component | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    ack: AckLevel | None = None
    ack_timeout: Duration = _THIRTY_SECONDS

    def make_framer(self) -> Any:
        """A new framer for one stream, multiline around it where the settings say so."""
        framer = self.framer.make()
        return framer if self.multiline is None else self.multiline.component(self.multiline.options, framer)

    def make_decoder(self) -> Any:
        """A new decoder."""
        return self.decoder.make_pure()


@dataclass(frozen=True, kw_only=True)
class HandlerSettings:
    """One `[handler.NAME]`: what is called (`handler`), and when and how.

    - `parts`: the framers and encoders that it chose, by the name of the key.
    - `listeners`: names, or None for all.
    - `steps`: as written; `step_classes` has the class of each step that is named.
    - `read_from`: "beginning", "end", or an aware UTC time.
    - `max_lag`: None for the default, half of the journal's bound.
    """

    name: str
    handler: Component
    parts: Mapping[str, Component] = field(default_factory=dict)
    listeners: tuple[str, ...] | None = None
    match: str | None = None
    steps: tuple[Mapping[str, Any], ...] = ()
    step_classes: Mapping[str, type] = field(default_factory=dict)
    retry: RetryOptions = field(default_factory=RetryOptions)
    read_from: Literal["beginning", "end"] | dt.datetime = "end"
    when_full: Literal["block", "drop_oldest"] = "block"
    max_lag: Size | None = None
    batch: PileOptions = field(default_factory=PileOptions)
    timeout: Duration = _THIRTY_SECONDS
    concurrency: int | None = None
    ordered: bool = False
    raw: bool = False
    required_for_ack: bool = True

    def part_factories(self) -> dict[str, Callable[[], Any]]:
        """What `HandlerContext.parts` holds: a factory for each part."""
        return {name: part.make for name, part in self.parts.items()}

    def make_steps(self) -> list[IStep]:
        """New steps, in order."""
        return [build_step(step, self.step_classes) for step in self.steps]

    def gets_from(self, listener: str) -> bool:
        """Whether the events of this listener are for this handler."""
        return self.listeners is None or listener in self.listeners


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that a server is built from.

    `journal`: None where frames are kept in memory; its `path` is absolute.
    `cwd`: the folder where modules are looked for that the settings name.
    `assumed` says what the settings did not name and got by default: `"listeners"`, `"handlers"`.
    """

    listeners: Mapping[str, ListenerSettings]
    handlers: Mapping[str, HandlerSettings]
    admin: AdminOptions | None = None
    journal: JournalOptions | None = None
    server: ServerOptions = field(default_factory=ServerOptions)
    assumed: frozenset[str] = frozenset()
    cwd: Path | None = None
