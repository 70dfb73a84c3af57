"""How commands print: tables and fields for people, JSON for programs; one thing a line, whatever peers sent."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from eventserver._escaping import escape_text

#: Longer texts are cut in tables.
WIDEST = 60


class CannotPrint(Exception):
    """Standard output does not take what a command prints, such as on a full disk; its reader is still there."""


def write(text: str) -> None:
    """To standard output. Raises `BrokenPipeError` or `CannotPrint`."""
    with _told():
        sys.stdout.write(text)


def write_bytes(data: bytes) -> None:
    """To standard output, as they are. Raises `BrokenPipeError` or `CannotPrint`."""
    with _told():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)


def flush() -> None:
    """Have the system take what was printed. Raises `BrokenPipeError` or `CannotPrint`."""
    with _told():
        sys.stdout.flush()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CannotPrint(f"standard output: {error.strerror}") from error


def complain(command: str, message: str) -> None:
    """A line on standard error."""
    sys.stderr.write(f"eventserver {command}: {escape_text(message)}\n")


def as_json(content: Any) -> str:
    """One line of JSON."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace").decode() + "\n"


def cell(value: Any) -> str:
    """A value as a cell of a table: one line, and not too wide."""
    text = escape_text(shown(value))
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


def shown(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows below their headers; numbers to the right."""
    rows = list(rows)
    texts = [list(headers), *([cell(value) for value in row] for row in rows)]
    wide = [max(map(len, column)) for column in zip(*texts, strict=True)]
    right = [bool(rows) and all(_is_number(row[at]) for row in rows) for at in range(len(headers))]
    return "".join(
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, wide, right, strict=True)
        ).rstrip()
        + "\n"
        for line in texts
    )


def listing(
    records: Sequence[Mapping[str, Any]], headers: Sequence[str], columns: Sequence[str], nothing: str, json: bool
) -> str:
    """Records as a table of some of their columns, or `nothing`; as JSON whole, one a line."""
    if json:
        return "".join(map(as_json, records))
    return table(headers, [[record[key] for key in columns] for record in records]) if records else f"{nothing}\n"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def fields(content: Mapping[str, Any], skip: Sequence[str] = ()) -> str:
    """Names and values, one a line; what is nested is indented."""
    return "".join(_fields(content, skip, ""))


def _fields(content: Mapping[str, Any], skip: Sequence[str], indent: str) -> Iterable[str]:
    wide = max((len(name) for name in content if name not in skip), default=0)
    for name, value in content.items():
        if name in skip:
            continue
        if isinstance(value, Mapping) and value:
            yield f"{indent}{escape_text(name)}:\n"
            yield from _fields(value, (), f"{indent}  ")
        else:
            yield f"{indent}{escape_text(name):{wide}}  {escape_text(shown(value))}\n"
