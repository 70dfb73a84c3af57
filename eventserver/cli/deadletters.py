"""`eventserver deadletters list|show|retry|drop`: the events that were given up."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from eventserver._escaping import escape_text
from eventserver.cli import _printing
from eventserver.cli._control import CommandError, Target, add_target, ended, target, when

_HEADERS = ("NUMBER", "HANDLER", "LAST ATTEMPT", "ATTEMPTS", "LISTENER", "MESSAGE", "ERROR")
_PAGE = 1000


def add_to(commands: Any) -> None:
    """Make the subcommand known."""
    parser = commands.add_parser(
        "deadletters",
        help="look at events that were given up, have them tried again, drop them",
        description="Dead letters are the events that a handler failed with for good. They are asked for from a "
        "running server, or read from its journal where none runs.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    one = actions.add_parser("list", help="list them, oldest first")
    _add_filters(one)
    one.add_argument("--limit", type=_count, default=100, metavar="N", help="at most so many; 0 is all (default 100)")
    one.set_defaults(function=_run, work=_list)

    one = actions.add_parser("show", help="show all that is known of some: the event, its bytes, the traceback")
    one.add_argument("numbers", nargs="+", type=_count, metavar="NUMBER")
    one.set_defaults(function=_run, work=_show)

    for name, text, work in (
        ("retry", "have some tried again by their handlers, from the first attempt on", _retry),
        ("drop", "forget some for good", _drop),
    ):
        one = actions.add_parser(name, help=text)
        one.add_argument("numbers", nargs="*", type=_count, metavar="NUMBER")
        one.add_argument("--all", action="store_true", help="all, or all that the filters leave")
        _add_filters(one)
        one.set_defaults(function=_run, work=work)
    for one in actions.choices.values():
        add_target(one)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--handler", metavar="NAME", help="only those of this handler")
    parser.add_argument("--match", metavar="EXPRESSION", help="only events that match, as in settings")
    parser.add_argument(
        "--since", metavar="TIME", help='only those that failed since: a time, or "24 h" for so long ago'
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of up to 18 digits")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    def work() -> int:
        with target(arguments) as found:
            return int(arguments.work(arguments, found))

    return ended("deadletters", work)


def _filters(arguments: argparse.Namespace) -> dict[str, str]:
    found = {"handler": arguments.handler, "match": arguments.match, "since": when(arguments.since)}
    return {key: value for key, value in found.items() if value is not None}


def _list(arguments: argparse.Namespace, server: Target) -> int:
    rows = []
    for one in _pages(server, _filters(arguments), arguments.limit or None):
        if arguments.json:
            _printing.write(_printing.as_json(one))
        else:
            keys = ("number", "handler", "last_attempt", "attempts", "listener", "message", "error")
            rows.append([one[key] for key in keys])
    if not arguments.json:
        _printing.write(_printing.table(_HEADERS, rows) if rows else "there are no dead letters\n")
        if rows and len(rows) == arguments.limit:
            query = {**_filters(arguments), "after": rows[-1][0], "limit": 1}
            if server.ask("GET", "/v1/deadletters", query)["deadletters"]:
                _printing.write("there are more: `--limit 0` lists them all\n")
    return 0


def _pages(server: Target, filters: dict[str, str], limit: int | None) -> Iterator[dict[str, Any]]:
    after, given = 0, 0
    while limit is None or given < limit:
        size = _PAGE if limit is None else min(_PAGE, limit - given)
        page = server.ask("GET", "/v1/deadletters", {**filters, "after": after, "limit": size})
        yield from page["deadletters"]
        given += len(page["deadletters"])
        if page["next"] is None:
            return
        after = page["next"]


def _show(arguments: argparse.Namespace, server: Target) -> int:
    for position, number in enumerate(arguments.numbers):
        one = server.ask("GET", f"/v1/deadletters/{number}")
        if arguments.json:
            _printing.write(_printing.as_json(one))
            continue
        _printing.write("\n" if position else "")
        _printing.write(_printing.fields(one, skip=("traceback", "message", "time", "listener", "peer", "type")))
        lines = one["traceback"].splitlines()
        _printing.write("traceback:\n" + "".join(f"  {escape_text(line)}\n" for line in lines))
    return 0


def _retry(arguments: argparse.Namespace, server: Target) -> int:
    done, waiting = _change(arguments, server, "retry", "retried")
    if arguments.json:
        _printing.write(_printing.as_json({"retried": done, "waiting_for": waiting}))
        return _code(arguments, done, "retried")
    if not server.live and done:
        _printing.write(f"{_dead_letters(done)} will be tried when the server starts\n")
    else:
        _printing.write(f"{_dead_letters(done)} handed to their handlers again\n")
    for name in waiting if server.live else ():
        _printing.write(f"handler {escape_text(name)} is not there: its events wait for it\n")
    return _code(arguments, done, "retried")


def _drop(arguments: argparse.Namespace, server: Target) -> int:
    done, _ = _change(arguments, server, "drop", "dropped")
    text = _printing.as_json({"dropped": done}) if arguments.json else f"{_dead_letters(done)} dropped\n"
    _printing.write(text)
    return _code(arguments, done, "dropped")


def _change(arguments: argparse.Namespace, server: Target, action: str, key: str) -> tuple[int, list[str]]:
    filters = _filters(arguments)
    if arguments.numbers and (filters or arguments.all):
        raise CommandError("name NUMBERs, or use filters and --all; not both", 2)
    if not (arguments.numbers or filters or arguments.all):
        raise CommandError(f"which? Name NUMBERs, a filter, or --all to {action} all", 2)
    done, waiting = 0, set()
    after: int | None = 0
    numbers = list(dict.fromkeys(arguments.numbers))
    while after is not None:
        if numbers:
            body: dict[str, Any] = {"numbers": numbers[:_PAGE]}
            numbers = numbers[_PAGE:]
        else:
            body = {"all": True, "after": after, **filters}
        found = server.ask("POST", f"/v1/deadletters/{action}", None, body)
        done += found[key]
        waiting |= set(found.get("waiting_for", ()))
        after = 0 if numbers else found["next"]
    return done, sorted(waiting)


def _dead_letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"


def _code(arguments: argparse.Namespace, done: int, word: str) -> int:
    missing = len(set(arguments.numbers)) - done if arguments.numbers else 0
    if missing:
        _printing.complain("deadletters", f"{missing} of those that were named are not there, and were not {word}")
    return 1 if missing else 0
