"""The files of settings, read and put together: several files, folders, and the options of the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventserver import options
from eventserver.settings.common import ServerOptions
from eventserver.settings.tables import Problems, Table, expand

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_TABLES = ("listener", "handler", "journal", "admin")


@dataclass
class Collected:
    """All tables that were found, by what they describe."""

    listeners: dict[str, Table] = field(default_factory=dict)
    handlers: dict[str, Table] = field(default_factory=dict)
    journal: Table | None = None
    admin: Table | None = None
    server: Table = field(default_factory=lambda: Table("", "", {}))

    def tables(self) -> Iterator[Table]:
        """Every table."""
        yield from self.listeners.values()
        yield from self.handlers.values()
        yield from (table for table in (self.journal, self.admin) if table is not None)
        yield self.server

    def add_document(self, source: str, document: Mapping[str, Any], problems: Problems) -> None:
        """The content of one file (or a mapping), added to what is there."""
        top = Table(source, "", {})
        server_keys = options.field_types(ServerOptions)
        for key, value in document.items():
            if key in ("listener", "handler"):
                self._add_named(source, key, value, problems)
            elif key in ("journal", "admin"):
                if isinstance(value, Mapping):
                    self.add_single(key, Table(source, key, dict(value)), problems)
                else:
                    problems.add(top, key, f"is a table; write `[{key}]`")
            elif key not in server_keys:
                problems.add(top, key, options.unknown(key, [*_TABLES, *server_keys]))
            elif key in self.server.values:
                problems.add(top, key, f"is set already in {self.server.sources[key]}")
            else:
                self.server.values[key] = value
                self.server.sources[key] = source

    def _add_named(self, source: str, kind: str, value: Any, problems: Problems) -> None:
        top = Table(source, kind, {})
        if not isinstance(value, Mapping):
            problems.add(top, "", f"holds tables; write `[{kind}.NAME]`")
            return
        for name, table in value.items():
            if isinstance(table, Mapping):
                self.add_component(kind, name, Table(source, f"{kind}.{name}", dict(table)), problems)
            else:
                problems.add(top, name, f"is not a table; write `[{kind}.NAME]` and put `{name}` below it")

    def add_component(self, kind: str, name: str, table: Table, problems: Problems) -> None:
        """One listener or handler, whose name nobody else may have."""
        known = self.listeners if kind == "listener" else self.handlers
        if not _NAME.fullmatch(name):
            problems.add(table, "", "a name has letters, digits, `_`, `-` and `.` only")
        if name in known:
            problems.add(table, "", f"there is a {kind} of this name already in {known[name].source or 'the settings'}")
        else:
            known[name] = table

    def add_single(self, key: str, table: Table, problems: Problems) -> None:
        """`[journal]` or `[admin]`, of which there is one."""
        former: Table | None = getattr(self, key)
        if former is not None:
            problems.add(table, "", f"is set already in {former.source or 'the settings'}")
        else:
            setattr(self, key, table)

    def expand(self, environ: Mapping[str, str], problems: Problems) -> None:
        """Environment variables into all texts."""
        for table in self.tables():
            expand(table, environ, problems)


def read_files(paths: Sequence[str | Path], cwd: Path, collected: Collected, problems: Problems) -> None:
    """Read every file, and of every folder the `*.toml` files in the order of their names."""
    for given in paths:
        path = cwd / given
        if not path.is_dir():
            _read_file(str(given), path, collected, problems)
            continue
        inside = sorted(path.glob("*.toml"))
        if not inside:
            problems.say(f"{given}: there is no file that ends in .toml in this folder")
        for file in inside:
            _read_file(str(Path(given) / file.name), file, collected, problems)


def _read_file(name: str, path: Path, collected: Collected, problems: Problems) -> None:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.say(f"{name}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        problems.say(f"{name}: is not UTF-8 text (byte {error.start}); TOML files are")
    except tomllib.TOMLDecodeError as error:
        problems.say(f"{name}: {_toml_error(str(error))}")
    else:
        collected.add_document(name, document, problems)


def _toml_error(message: str) -> str:
    """The parser's words with the place in front: `line 3, column 5: ...`."""
    match = re.fullmatch(r"(.*) \(at (.*)\)", message, re.DOTALL)
    return f"{match[2]}: {match[1]}" if match else message
