"""What follows `--listen` and `--handler`: a first word, then `key=value` pairs.

Quotes group words as the shell's do; a backslash is an ordinary character, since endpoints and expressions need it.
Keys are those of the file, dotted where nested (`retry.max_attempts=3`). Values are read by the type of their key;
lists and tables are written as in TOML, a list of words also with commas.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import Any

from eventserver.settings.files import Collected
from eventserver.settings.tables import Problems, Table


def add_listener(text: str, collected: Collected, problems: Problems) -> None:
    """`--listen 'ENDPOINT key=value ...'`; without `name=` it is named after the endpoint's kind."""
    table = _table("--listen", text, problems)
    if table is None:
        return
    endpoint = table.values.pop("")
    if "endpoints" in table.values:
        problems.add(
            table, "endpoints", f"the endpoint is the first word; give --listen once for each of {endpoint}, …"
        )
    table.values["endpoints"] = [endpoint]
    _add("listener", endpoint.partition(":")[0], table, collected, problems)


def add_handler(text: str, types: Collection[str], collected: Collected, problems: Problems) -> None:
    """`--handler 'TYPE key=value ...'` or `--handler 'module:function key=value ...'`; named after its type."""
    table = _table("--handler", text, problems)
    if table is None:
        return
    first = table.values.pop("")
    given = {"type": "python", "call": first} if ":" in first and first not in types else {"type": first}
    for key in given.keys() & table.values.keys():
        problems.add(table, key, "is the first word already")
    table.values |= given
    _add("handler", given["type"], table, collected, problems)


def add_single(kind: str, key: str, text: str, collected: Collected, problems: Problems) -> None:
    """`--journal DIR` or `--admin 'ENDPOINT key=value ...'`."""
    table = _table(f"--{kind}", text, problems)
    if table is not None:
        table.source = f"--{kind}"
        table.values[key] = table.values.pop("")
        collected.add_single(kind, table, problems)


def _add(kind: str, default: str, table: Table, collected: Collected, problems: Problems) -> None:
    known = collected.listeners if kind == "listener" else collected.handlers
    name = table.values.pop("name", None)
    if not isinstance(name, str):
        number = 1
        while (name := default + (str(number) if number > 1 else "")) in known:
            number += 1
    collected.add_component(kind, name, table, problems)


def _table(option: str, text: str, problems: Problems) -> Table | None:
    try:
        words = _words(text)
    except ValueError as error:
        problems.say(f"{option} {text}: {error}")
        return None
    if not words or ("=" in words[0] and ":" not in words[0].partition("=")[0]):
        firsts = {"--handler": "the type or module:function", "--journal": "the folder"}
        first = firsts.get(option, "the endpoint")
        problems.say(f"{option} {text}: begins with {first}, then key=value pairs")
        return None
    table = Table(f"{option} {words[0]}", "", {"": words[0]}, written=True)
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals or not key:
            problems.say(f"{table.source}: `{word}` is no pair; write key=value, in quotes if it has spaces")
        else:
            _put(table, key, value, problems)
    return table


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.escape = ""
    try:
        return list(lexer)
    except ValueError as error:
        raise ValueError(f"{str(error)[:1].lower()}{str(error)[1:]}") from None


def _put(table: Table, key: str, value: str, problems: Problems) -> None:
    at: dict[str, Any] = table.values
    *outer, last = key.split(".")
    for part in outer:
        at = at.setdefault(part, {})
        if not isinstance(at, dict):
            problems.add(table, key, f"`{part}` has a value already")
            return
    if last in at:
        problems.add(table, key, "is given twice")
    else:
        at[last] = value
