"""Tables of settings on their way to components: where each came from, and what was found wrong with them."""

from __future__ import annotations

import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventserver import options
from eventserver.options import Options, Secret

_VARIABLE = re.compile(r"\$(\$?)\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass
class Table:
    """One table as it was read: `source` is the file or the option of the command line, empty for a mapping.

    `key` is its own name there (`listener.syslog`), empty at the top. `written` says that the values are texts from
    the command line, to be read by the type of each key. `sources` names other sources of single keys.
    """

    source: str
    key: str
    values: dict[str, Any]
    written: bool = False
    sources: dict[str, str] = field(default_factory=dict)


#: Stands for a value whose problem is known already.
FAILED = object()


class Problems:
    """Every error found so far, one sentence each, in order, none twice."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, table: Table, key: str, sentence: str) -> None:
        """Something is wrong with a key of a table (or with the table itself, if `key` is empty)."""
        dotted = ".".join(part for part in (table.key, key) if part)
        source = table.sources.get(key.partition(".")[0].partition("[")[0], table.source)
        self.say(": ".join(part for part in (source, dotted, sentence) if part))

    def say(self, sentence: str) -> None:
        """Something is wrong that has no table."""
        if sentence not in self.found:
            self.found.append(sentence)


def expand(table: Table, environ: Mapping[str, str], problems: Problems) -> None:
    """Put environment variables in the place of `${NAME}` in every text of the table; `$${` stands for `${`."""
    for key, value in table.values.items():
        before = len(problems.found)
        expanded = _expanded(value, key, table, environ, problems)
        table.values[key] = expanded if len(problems.found) == before else FAILED


def _expanded(value: Any, key: str, table: Table, environ: Mapping[str, str], problems: Problems) -> Any:
    if isinstance(value, dict):
        return {k: _expanded(v, f"{key}.{k}", table, environ, problems) for k, v in value.items()}
    if isinstance(value, list):
        return [_expanded(v, f"{key}[{i}]", table, environ, problems) for i, v in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        escaped, name, end = match.groups()
        if escaped:
            return match[0][1:]
        if not end or not _NAME.fullmatch(name):
            problems.add(table, key, f"`{match[0]}` names no environment variable; write `$${{` for `${{` itself")
        elif name not in environ:
            problems.add(table, key, f"the environment variable {name} is not set")
        return environ.get(name, "")

    return _VARIABLE.sub(replace, value)


def prepared(table: Table, cls: type[Options], problems: Problems) -> dict[str, Any]:
    """The values that an options class declares, ready for `options.parse`.

    Texts from the command line become the lists and tables that the types ask for, and `file:/path` becomes the
    file's content where a secret is asked for.
    """
    ready = {}
    for name, (hint, _) in options.field_types(cls).items():
        if name not in table.values:
            continue
        value = table.values[name]
        try:
            if table.written:
                value = read_text(value, hint)
            ready[name] = value if value is FAILED else _revealed(value, hint)
        except ValueError as error:
            problems.add(table, name, str(error))
            ready[name] = FAILED
    return ready


def parse(table: Table, cls: type[Options], problems: Problems, extra: Mapping[str, Any] | None = None) -> Any:
    """The options of one class that a table names, or None where something was wrong; keys of others are left alone.

    `extra` has values that are set already, such as the endpoints of this part.
    """
    values = {**prepared(table, cls, problems), **(extra or {})}
    failed = {key for key, value in values.items() if value is FAILED}
    parsed, found = options.parse(
        cls, {key: value for key, value in values.items() if key not in failed}, strict=not table.written
    )
    for key, sentence in found:
        if key not in failed:
            problems.add(table, key, sentence)
    return None if failed else parsed


def read_text(value: Any, hint: Any) -> Any:
    """A text from the command line as the list or table that a type asks for, written as in TOML; else as it is."""
    if isinstance(value, Mapping):
        nested = _fields_of(hint)
        return {k: read_text(v, nested[k] if nested and k in nested else Any) for k, v in value.items()}
    kinds = _kinds(hint)
    if not isinstance(value, str) or not kinds & {list, dict, Any}:
        return value
    if value.startswith(("[", "{")):
        return _toml_value(value)
    if list in kinds and str not in kinds:
        return [part.strip() for part in value.split(",")]
    return value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"`{text}` is not written as in TOML: {error}") from None


def _members(hint: Any) -> list[Any]:
    """The plain types that a hint allows: without `Annotated`, the members of a union."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = hint.__origin__
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [member for part in typing.get_args(hint) for member in _members(part)]
    return [hint]


def _kinds(hint: Any) -> set[Any]:
    kinds = set()
    for member in _members(hint):
        kind = typing.get_origin(member) or member
        if isinstance(kind, type) and issubclass(kind, Options):
            kind = dict
        kinds.add(list if kind in (tuple, set, frozenset) else kind)
    return kinds


def _fields_of(hint: Any) -> dict[str, Any] | None:
    for member in _members(hint):
        if isinstance(member, type) and issubclass(member, Options):
            return {name: inner for name, (inner, _) in options.field_types(member).items()}
    return None


def _revealed(value: Any, hint: Any) -> Any:
    """The value with `file:/path` read, wherever the type asks for a secret."""
    for member in _members(hint):
        if isinstance(member, type) and issubclass(member, Secret):
            return _secret(value) if isinstance(value, str) else value
    fields = _fields_of(hint)
    if isinstance(value, Mapping):
        inner = [typing.get_args(m)[1] for m in _members(hint) if typing.get_origin(m) is dict]
        if fields is not None:
            return {k: _revealed(v, fields[k]) if k in fields else v for k, v in value.items()}
        return {k: _revealed(v, inner[0]) for k, v in value.items()} if inner else value
    if isinstance(value, list):
        items = [typing.get_args(m)[0] for m in _members(hint) if typing.get_origin(m) in (list, tuple)]
        return [_revealed(v, items[0]) for v in value] if items else value
    return value


def _secret(value: str) -> str:
    if not value.startswith("file:"):
        return value
    path = Path(value.removeprefix("file:"))
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"cannot read the secret from {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the secret in {path} is not UTF-8 text") from None
