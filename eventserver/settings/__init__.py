"""TOML files, the command line or a mapping to typed settings, with all errors at once.

`load(paths, extra=CommandLine(...))` and `from_mapping({...})` return `Settings` or raise `SettingsError`.
"""

from __future__ import annotations

from eventserver.errors import SettingsError
from eventserver.settings.common import (
    HandlerOptions,
    JournalOptions,
    ListenerOptions,
    PileOptions,
    RetryOptions,
    ServerOptions,
)
from eventserver.settings.loading import CommandLine, from_mapping, load
from eventserver.settings.model import (
    Component,
    HandlerSettings,
    ListenerPart,
    ListenerSettings,
    Settings,
)

__all__ = [
    "CommandLine",
    "Component",
    "HandlerOptions",
    "HandlerSettings",
    "JournalOptions",
    "ListenerOptions",
    "ListenerPart",
    "ListenerSettings",
    "PileOptions",
    "RetryOptions",
    "ServerOptions",
    "Settings",
    "SettingsError",
    "from_mapping",
    "load",
]
