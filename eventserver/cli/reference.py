"""The reference of every setting as Markdown, made from the code: `python -m eventserver.cli.reference`.

With `--check FILE` nothing is printed: the exit code is 1 if the file is not what the code says.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from eventserver.cli.schema import default_of, json_value
from eventserver.options import Duration, Options, Secret, Size, field_types
from eventserver.registry import Registry
from eventserver.settings.common import (
    AdminOptions,
    HandlerOptions,
    JournalOptions,
    ListenerOptions,
    ServerOptions,
)

_HEAD = """\
# Settings

Settings are TOML files, named with `-c FILE` (which may be repeated, and may name a folder whose `*.toml` files are
read in the order of their names), and the command line, which adds to them. `eventserver check FILE` names every error
at once; `eventserver schema settings` prints a JSON Schema for editors.

- A size is written `"64 KiB"` or `"1 MB"`, a duration `"200 ms"`, `"5 s"`, `"5 min"` or `"24 h"`.
- `${NAME}` in any text is an environment variable; `$${` stands for `${` itself.
- A secret may also be the content of a file: `"file:/etc/eventserver/token"`.
- On the command line the same keys follow an endpoint or a type: `--listen 'tcp:5140 max_frame="8 KiB"'`,
  `--handler 'file path=/var/log/events.jsonl retry.max_attempts=3'`; `name=NAME` names the listener or handler.
"""
_LISTENER = """\
The options of its type, its framing and its decoder stand in the same table; unknown keys are refused. Where two of
them have a key of the same name, such as `max_frame`, it is for both.

```toml
[listener.syslog]
endpoints = ["udp:5514", "tcp:5514"]
decoder   = "syslog"
max_frame = "16 KiB"
```
"""
_HANDLER = """\
The options of its type, and those of the encoder or framing that it chooses, stand in the same table; unknown keys are
refused.

```toml
[handler.archive]
type  = "file"
path  = "/var/log/events.jsonl"
match = 'severity_code <= 4'
```
"""
_KINDS = (
    ("listeners", "Listener type"),
    ("framers", "Framing"),
    ("decoders", "Decoder"),
    ("handlers", "Handler type"),
    ("encoders", "Encoder"),
)
_TEXTS = {str: "text", Size: "size", Duration: "duration", Secret: "secret"}
_WORDS: dict[Any, str] = {**_TEXTS, bool: "true or false", int: "integer", float: "number"}


def reference(registry: Registry) -> str:
    """The page."""
    return "\n".join(_lines(registry)).rstrip() + "\n"


def _lines(registry: Registry) -> Iterator[str]:
    yield _HEAD
    yield from _section("## At the top of the file", ServerOptions)
    yield from _section("## `[listener.NAME]`", ListenerOptions, _LISTENER)
    yield from _components(registry, _KINDS[:3])
    yield from _multiline()
    yield from _section("## `[handler.NAME]`", HandlerOptions, _HANDLER)
    yield from _steps(registry)
    yield from _components(registry, _KINDS[3:])
    yield from _section("## `[journal]`", JournalOptions)
    yield from _section("## `[admin]`", AdminOptions)


def _section(title: str, cls: type[Options], text: str = "") -> Iterator[str]:
    yield title
    yield ""
    yield first_paragraph(cls)
    yield ""
    if text:
        yield text
    yield from _table(cls)


def _components(registry: Registry, kinds: Sequence[tuple[str, str]]) -> Iterator[str]:
    for kind, title in kinds:
        for name in _ours(registry, kind):
            component = registry.get(kind, name)
            yield f"### {title} `{name}`"
            yield ""
            yield first_paragraph(component)
            yield ""
            yield from _table(component.Options, ListenerOptions if kind == "listeners" else None)


def _ours(registry: Registry, kind: str) -> list[str]:
    """The names that this package offers: what else is installed is not for this page."""
    names = registry.names(kind)
    return [name for name in names if any(s.distribution == "eventserver" for s in registry.sources(kind, name))]


def _multiline() -> Iterator[str]:
    from eventserver.framing.multiline import MultilineFramer

    yield "### `multiline = {...}`"
    yield ""
    yield first_paragraph(MultilineFramer)
    yield ""
    yield from _table(MultilineFramer.Options)


def _steps(registry: Registry) -> Iterator[str]:
    yield "### `steps = [...]`"
    yield ""
    for name in _ours(registry, "steps"):
        yield f"- {first_paragraph(registry.get('steps', name))}"
    yield ""


def _table(cls: type[Options], but: type[Options] | None = None) -> Iterator[str]:
    """The options of one class, without those that another one has too."""
    rows = [row for row in _rows(cls) if but is None or row[0] not in field_types(but)]
    if not rows:
        yield "It has no options of its own."
    else:
        yield "| Key | Type | Default | Meaning |"
        yield "|---|---|---|---|"
    for key, *cells in rows:
        yield "| " + " | ".join(_cell(cell) for cell in (f"`{key}`", *cells)) + " |"
    yield ""


def _rows(cls: type[Options]) -> Iterator[tuple[str, ...]]:
    """Key, type, default and meaning; below the key of a table the keys inside it."""
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    for name, (hint, meta) in field_types(cls).items():
        nested = [kind for kind in _members(hint) if isinstance(kind, type) and issubclass(kind, Options)]
        field = fields[name]
        default = None if nested else json_value(default_of(field))
        words = [meta.description or ""] if meta is not None else []
        words += [*_bounds(hint, meta), *_example(hint, meta, default)]
        yield name, type_words(hint), "required" if field.required else _default(default), " ".join(words).strip()
        for inner in nested:
            for key, *cells in _rows(inner):
                yield f"{name}.{key}", *cells


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def first_paragraph(thing: Any) -> str:
    """What something says about itself, up to the first empty line, on one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def _members(hint: Any) -> list[Any]:
    """The types that a hint allows, None left out."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = hint.__origin__
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [member for part in typing.get_args(hint) for member in _members(part) if member is not type(None)]
    return [hint]


def type_words(hint: Any) -> str:
    """A type in words: `list of texts`."""
    return " or ".join(dict.fromkeys(map(_one_type, _members(hint))))


def _one_type(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is typing.Literal:
        return ", ".join(f"`{toml(value)}`" for value in arguments)
    if origin in (list, tuple):
        return f"list of {type_words(arguments[0])}s"
    if origin is dict or issubclass(hint, Options):
        return "table"
    return str(hint.__name__)


def _default(value: Any) -> str:
    empty = value is None or (isinstance(value, (str, list, tuple, dict)) and not value)
    return "" if empty else f"`{toml(value)}`"


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Size, Duration)):
        return toml(str(value))
    if isinstance(value, str):
        if "'" not in value and ('"' in value or "\\" in value):
            return f"'{value}'"
        # A text of JSON is one of TOML, too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value)


def _bounds(hint: Any, meta: msgspec.Meta | None) -> Iterator[str]:
    if meta is None:
        return
    custom = (meta.extra or {}).get("bounds", {})
    unit = next((kind for kind in (Size, Duration) if kind in _members(hint)), None)
    for key, word in (("ge", "At least"), ("gt", "More than"), ("le", "At most"), ("lt", "Less than")):
        bound = custom.get(key, getattr(meta, key))
        # A size of one byte or more, a duration of zero or more: that goes without saying.
        if bound is not None and (unit is None or bound > 1):
            yield f"{word} `{toml(unit(bound)) if unit else bound}`."


def _example(hint: Any, meta: msgspec.Meta | None, default: Any) -> Iterator[str]:
    """The examples; one that is just the default says nothing new."""
    examples = [] if meta is None else [_as_toml(example, hint) for example in meta.examples or []]
    examples = [example for example in examples if default is None or example != toml(default)]
    if examples:
        yield "Example: " + ", ".join(f"`{example}`" for example in examples) + "."


def _as_toml(example: Any, hint: Any) -> str:
    """An example; for what is no text it may be a text that is TOML already."""
    texts = any(kind in _TEXTS or typing.get_origin(kind) is typing.Literal for kind in _members(hint))
    return example if isinstance(example, str) and not texts else toml(example)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the page, or compare it with a file."""
    parser = argparse.ArgumentParser(prog="python -m eventserver.cli.reference", description=__doc__)
    parser.add_argument("--check", metavar="FILE", help="compare with this file instead of printing")
    arguments = parser.parse_args(argv)
    page = reference(Registry.from_entry_points())
    if arguments.check is None:
        sys.stdout.write(page)
        return 0
    path = Path(arguments.check)
    if path.is_file() and path.read_text(encoding="utf-8") == page:
        return 0
    sys.stderr.write(f"{path} is not what the code says; run: python -m eventserver.cli.reference > {path}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
