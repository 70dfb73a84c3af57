"""The name and the tags of a Graphite series, from its path.

Graphite documentation, "Graphite Tag Support": `name;tag=value;tag2=value2`. Carbon also reads the form of OpenMetrics,
`name{tag="value",tag2="value2"}` (carbon/util.py, `TaggedSeries`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: What the name of a tag must not hold (same page: "Tag names must have a length >= 1 and may contain any ascii
#: characters except ;!^=").
_NOT_IN_A_TAG = re.compile(r"[;!^=]")
_PAIR = re.compile(r'([^="]+)="((?:[^"\\]|\\.)+)"(?:,|$)', re.DOTALL)
_ESCAPE = re.compile(r'\\(["\\])')


class Series(NamedTuple):
    """What a path says. Where its tags cannot be read, `name` is the whole path, and `error` says why."""

    name: str
    tags: dict[str, str]
    error: str = ""


def is_tagged(path: str) -> bool:
    """Whether `read_series` has anything to find in the path."""
    return ";" in path or path.endswith('"}')


def read_series(path: str, max_tags: int) -> Series:
    """The name and tags of a path; a tag that comes twice has its last value. Never raises."""
    try:
        name, pairs = _open_metrics(path) if ";" not in path else _carbon(path, max_tags)
    except ValueError as error:
        return Series(path, {}, str(error))
    if not name:
        return Series(path, {}, "there is no name before the tags")
    if len(pairs) > max_tags:
        return Series(path, {}, f"more than {max_tags} tags")
    for tag, value in pairs:
        if problem := _problem(tag, value):
            return Series(path, {}, problem)
    return Series(name, dict(pairs))


def _carbon(path: str, max_tags: int) -> tuple[str, list[tuple[str, str]]]:
    # One more than allowed shows that there are too many; the rest is not looked at.
    name, *segments = path.split(";", max_tags + 1)
    pairs = []
    for segment in segments[: max_tags + 1]:
        tag, equals, value = segment.partition("=")
        if not equals:
            raise ValueError(f"a tag without `=`: {segment[:80]!r}")
        pairs.append((tag, value))
    return name, pairs


def _open_metrics(path: str) -> tuple[str, list[tuple[str, str]]]:
    name, brace, text = path[:-1].partition("{")
    if not brace:
        raise ValueError('it ends with `"}`, but has no `{`')
    pairs, position = [], 0
    while position < len(text):
        found = _PAIR.match(text, position)
        if found is None:
            raise ValueError(f"a tag that cannot be read: {text[position : position + 80]!r}")
        pairs.append((found[1], _ESCAPE.sub(r"\1", found[2])))
        position = found.end()
    return name, pairs


def _problem(tag: str, value: str) -> str | None:
    """What Graphite does not allow of a tag."""
    if not tag:
        return "a tag without a name"
    if not value:
        return f"the tag {tag[:80]!r} has no value"
    if _NOT_IN_A_TAG.search(tag):
        return f"the name of a tag has one of `;!^=`: {tag[:80]!r}"
    if value.startswith("~") or ";" in value:
        return f"the value of the tag {tag[:80]!r} begins with `~` or has a `;`"
    return None
