"""The options of the main job, shared by `twistd eventserver` and `eventserver run`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from twisted.python import usage

from eventserver.errors import SettingsError
from eventserver.settings import CommandLine, Settings, load

HELP = r"""
PAIRS
  What follows --listen and --handler is one word of the shell, so put it in
  quotes. Its first word is the endpoint, or the handler's type, or
  module:function; then come key=value pairs. The keys are those of a settings
  file, dotted where nested (retry.max_attempts=3); values are read by the type
  of their key, lists are written a,b or as in TOML. Quotes inside group words,
  a backslash is an ordinary character. name=NAME names the listener or
  handler; else its kind and a number do. Options add to the files.

  Without listeners there are `lines` (tcp and udp 5140) and `syslog` (tcp and
  udp 5514) on 127.0.0.1 and ::1; without handlers, events are printed as JSON
  on standard output. Frames are kept in memory, or on disk with --journal. The
  log goes to standard error.

ENDPOINTS
  tcp:5140   tcp:5140:interface=127.0.0.1   tcp6:5140:interface=\:\:1
  tls:6514   udp:5140   unix:/run/es.sock:mode=660   unix-datagram:/run/es.sock
  systemd:domain=INET:index=0   systemd-datagram:index=0

EXAMPLES
  twistd -n eventserver
  twistd -n eventserver --listen tcp:5140 --handler console
  twistd -n eventserver -c /etc/eventserver/conf.d
  twistd -n eventserver --listen 'udp:5514 decoder=syslog max_frame="8 KiB"' \
      --handler 'file path=/var/log/events.jsonl match="severity_code <= 3"'
  twistd -n eventserver --listen tcp:5140 --handler my_handlers:on_event
  twistd -n eventserver --journal /var/lib/eventserver --handler console

SEE ALSO
  eventserver check FILE       every error of a settings file at once
  eventserver components       the types of listeners, handlers, decoders, ...
  eventserver schema settings  the settings as JSON Schema
"""


class Options(usage.Options):
    """Reads the command line; `settings()` reads the files."""

    synopsis = "[options]"
    longdesc = ""

    def __init__(self) -> None:
        super().__init__()
        self["config"] = []
        self["listen"] = []
        self["handler"] = []
        self["journal"] = None
        self["admin"] = None

    def opt_config(self, path: str) -> None:
        """A settings file (TOML), or a folder: its *.toml files by name. May be repeated."""
        self["config"].append(path)

    opt_c = opt_config

    def opt_listen(self, text: str) -> None:
        """Listen on an endpoint: 'ENDPOINT key=value ...'. May be repeated."""
        self["listen"].append(text)

    def opt_handler(self, text: str) -> None:
        """Give events to a handler: 'TYPE key=value ...' or 'module:function key=value ...'. May be repeated."""
        self["handler"].append(text)

    def opt_journal(self, folder: str) -> None:
        """Keep frames in this folder until they are handled: 'DIR key=value ...'."""
        self._once("journal", folder)

    def opt_admin(self, text: str) -> None:
        """Serve health and metrics over HTTP: 'ENDPOINT key=value ...', such as tcp:9514:interface=127.0.0.1."""
        self._once("admin", text)

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"eventserver {version('eventserver')}")  # noqa: T201  # it is what the option is for
        sys.exit(0)

    def _once(self, name: str, value: str) -> None:
        if self[name] is not None:
            raise usage.UsageError(f"--{name} is given twice")
        self[name] = value

    def getUsage(self, width: int | None = None) -> str:
        """The help: Twisted's list of the options, then what it would fold into one paragraph."""
        return super().getUsage(width) + HELP

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line. A wrong option ends the program: one line on standard error, exit code 1."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"eventserver: {error} (see --help)") from None

    def parseArgs(self, *words: str) -> None:
        """There are no words besides the options."""
        if words:
            raise usage.UsageError(f"`{words[0]}` is no option; a settings file is named with -c {words[0]}")

    def settings(self) -> Settings:
        """The settings of the files and options. Raises `SettingsError`."""
        extra = CommandLine(self["listen"], self["handler"], self["journal"], self["admin"])
        return load(self["config"], extra=extra)

    def settings_or_exit(self) -> Settings:
        """The settings; if they are wrong the program ends: a line a problem on standard error, exit code 1."""
        try:
            return self.settings()
        except SettingsError as error:
            raise SystemExit("\n".join(f"eventserver: {problem}" for problem in error.problems)) from None
