"""The types of settings, and how components declare their options with them.

A component (a framer, decoder, encoder, listener or handler) names its options once, as a class attribute::

    class Options(options.Options):
        max_frame: Annotated[Size, Doc("The largest frame that is kept whole.", "64 KiB")] = Size(65536)

The same declaration feeds the parser, `eventserver check`, `eventserver schema settings` and the reference page.
Values carry units (`"64 KiB"`, `"5 s"`), names do not.
"""

from __future__ import annotations

import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import msgspec

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-zµ]*)\s*", re.ASCII)
_SIZES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZES |= {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_DURATIONS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


class Size(int):
    """A number of bytes, written `"64 KiB"`, `"1 MB"`, `"512 B"` or as a plain integer."""

    schema: ClassVar[dict[str, Any]] = {
        "type": ["string", "integer"],
        "description": 'a size, such as "64 KiB"',
        "minimum": 0,
        "pattern": "^ *[0-9.]+ *(B|[kK]B|[MGT]B|[KMGT]iB)? *$",
    }

    @classmethod
    def parse(cls, value: object) -> Size:
        """The size that a setting names. Raises `ValueError` with what would be right."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return cls(value)
        match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
        if match is None or match[2] not in _SIZES:
            raise ValueError(f'{value!r} is not a size; write a number and a unit, such as "64 KiB" or "1 MB"')
        return cls(round(float(match[1]) * _SIZES[match[2]]))

    def __str__(self) -> str:
        for unit in ("TiB", "GiB", "MiB", "KiB"):
            if self and self % _SIZES[unit] == 0:
                return f"{self // _SIZES[unit]} {unit}"
        return f"{int(self)} B"


class Duration(float):
    """A time in seconds, written `"200 ms"`, `"5 s"`, `"5 min"`, `"24 h"` or `"7 d"`."""

    schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "description": 'a duration, such as "5 s"',
        "pattern": "^ *[0-9.]+ *(ms|s|min|h|d) *$",
    }

    @classmethod
    def parse(cls, value: object) -> Duration:
        """The duration that a setting names. Raises `ValueError` with what would be right."""
        match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
        if match is not None and match[2] in _DURATIONS:
            return cls(float(match[1]) * _DURATIONS[match[2]])
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0:
            return cls(0)
        raise ValueError(f'{value!r} is not a duration; write a number and a unit, such as "200 ms", "5 s" or "24 h"')

    def __str__(self) -> str:
        for unit in ("d", "h", "min", "s"):
            if self and math.fmod(self, _DURATIONS[unit]) == 0:
                return f"{self / _DURATIONS[unit]:g} {unit}"
        return "0 s" if not self else f"{self * 1000:g} ms"


class Secret(str):
    """A text that is never shown: not in logs, not by `repr`, not in the settings that a command prints.

    In a file: the text itself, `"${NAME}"` for an environment variable, or `"file:/path"` for a file's content.
    """

    schema: ClassVar[dict[str, Any]] = {"type": "string", "description": 'a secret: text, "${NAME}" or "file:/path"'}

    @classmethod
    def parse(cls, value: object) -> Secret:
        """The secret, already looked up. Raises `ValueError` if it is no text."""
        if not isinstance(value, str):
            raise ValueError("a secret is a text")
        return cls(value)

    def __repr__(self) -> str:
        return "Secret(...)"


_TYPES: tuple[type[Size | Duration | Secret], ...] = (Size, Duration, Secret)


def Doc(description: str, *examples: object, **bounds: Any) -> msgspec.Meta:
    """The description of an option, for `Annotated`: a sentence, examples as written in TOML, and bounds.

    Bounds are those of `msgspec.Meta` (`ge`, `le`, `gt`, `min_length`, `pattern`, ...); for `Size` and `Duration`
    only `ge` and `le`, in bytes and seconds.
    """
    if {"ge", "le"} >= bounds.keys():
        # msgspec refuses numeric bounds on custom types; `_check_bounds` applies them to every number alike.
        return msgspec.Meta(description=description, examples=list(examples), extra={"bounds": bounds})
    return msgspec.Meta(description=description, examples=list(examples), **bounds)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every component's options."""

    def problems(self) -> Iterable[tuple[str, str]]:
        """What is wrong with the options taken together: pairs of key and sentence."""
        return ()


T = TypeVar("T", bound=Options)


def convert(value: object, to: Any, *, strict: bool = True) -> Any:
    """One value as the type that an option declares. Raises `ValueError` with a sentence for people.

    With `strict=False` texts are read as numbers and booleans where the type asks for them (the command line).
    """
    try:
        return msgspec.convert(value, to, strict=strict, dec_hook=_custom)
    except msgspec.ValidationError as error:
        if isinstance(value, str) and (choices := _choices(to)):
            raise ValueError(f"{value!r} is not among {', '.join(map(repr, choices))}") from None
        raise ValueError(_plain(str(error))) from None


def _choices(hint: Any) -> list[str]:
    """The texts that a type allows, if these are all that it allows (besides None)."""
    origin, inner = typing.get_origin(hint), [one for one in typing.get_args(hint) if one is not type(None)]
    if origin is typing.Literal:
        return inner if all(isinstance(choice, str) for choice in inner) else []
    if origin is typing.Annotated:
        return _choices(hint.__origin__)
    return _choices(inner[0]) if origin in (typing.Union, types.UnionType) and len(inner) == 1 else []


def _custom(to: type, value: object) -> object:
    if issubclass(to, _TYPES):
        return to.parse(value)
    raise ValueError(f"unsupported type {to!r}")


def _plain(message: str) -> str:
    """msgspec's words in those of TOML."""
    message = message.replace(" - at `$`", "").replace(" - at `$", " at `")
    for ours, theirs in (("a table", "object"), ("a text", "str"), ("an integer", "int"), ("nothing", "null")):
        message = re.sub(rf"`{theirs}`", ours, message)
    return message[:1].lower() + message[1:]


def field_types(cls: type[Options]) -> dict[str, tuple[Any, msgspec.Meta | None]]:
    """The fields of an options class, in order: name to its type and its `Doc`."""
    found = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        if typing.get_origin(hint) is ClassVar:
            continue
        metas = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, msgspec.Meta)]
        found[name] = (hint, metas[0] if metas else None)
    return found


def parse(cls: type[T], table: Mapping[str, Any], *, strict: bool = True) -> tuple[T | None, list[tuple[str, str]]]:
    """The options that a table names, and every problem found: pairs of (dotted) key and sentence.

    The options are None if there is a problem.
    """
    fields = field_types(cls)
    problems = [(key, unknown(key, fields)) for key in table if key not in fields]
    values: dict[str, Any] = {}
    for name, (hint, meta) in fields.items():
        if name not in table:
            continue
        nested = _nested(hint)
        if nested is not None and isinstance(table[name], Mapping):
            values[name], inner = parse(nested, table[name], strict=strict)
            problems += [(f"{name}.{key}", sentence) for key, sentence in inner]
            continue
        try:
            values[name] = convert(table[name], hint, strict=strict)
            _check_bounds(values[name], meta)
        except ValueError as error:
            problems.append((name, str(error)))
    required = {f.name for f in msgspec.structs.fields(cls) if f.required}
    problems += [(name, "is missing") for name in fields if name in required and name not in table]
    if problems:
        return None, problems
    options = cls(**values)
    problems = list(options.problems())
    return (None if problems else options), problems


def _nested(hint: Any) -> type[Options] | None:
    """The options class that a field holds (alone, or beside None), if it holds one."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = hint.__origin__
    for candidate in typing.get_args(hint) or (hint,):
        if isinstance(candidate, type) and issubclass(candidate, Options):
            return candidate
    return None


def _check_bounds(value: object, meta: msgspec.Meta | None) -> None:
    bounds = (meta.extra or {}).get("bounds", {}) if meta is not None else {}
    if not isinstance(value, (int, float)):
        return
    if "ge" in bounds and value < bounds["ge"]:
        raise ValueError(f"{value} is too small; at least {type(value)(bounds['ge'])}")
    if "le" in bounds and value > bounds["le"]:
        raise ValueError(f"{value} is too large; at most {type(value)(bounds['le'])}")


def unknown(key: str, known: Iterable[str]) -> str:
    """The sentence for a key that nobody knows, with the nearest known one as a suggestion."""
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"unknown key; did you mean `{near[0]}`?" if near else "unknown key"
