"""`eventserver journal info|verify|export|repair|cursors`: what is kept on disk, and who stands where in it."""

from __future__ import annotations

import argparse
import base64
from typing import Any

from eventserver._escaping import escape_text
from eventserver.cli import _printing
from eventserver.cli._control import CommandError, Target, add_target, ended, folder_of_nobody, target, when

_HEADERS = ("NAME", "POSITION", "BEHIND", "ACTIVE", "PARKED", "DEAD", "SEEN")
_SEGMENT_HEADERS = ("FIRST", "END", "BYTES", "SEALED", "FRAMES", "LOST", "OK", "PROBLEM")
_SEGMENT_COLUMNS = ("first", "end", "bytes", "sealed", "frames", "lost", "ok", "problem")
_COLUMNS = ("name", "position", "lag", "active", "parked", "dead", "seen")


def add_to(commands: Any) -> None:
    """Make the subcommand known."""
    parser = commands.add_parser(
        "journal",
        help="look at the journal on disk, check it, copy it out, mend it, move its cursors",
        description="A running server is asked; where none runs, its journal is read (and locked meanwhile).",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    one = actions.add_parser("info", help="sizes, counts and positions")
    one.set_defaults(work=_info)

    one = actions.add_parser("verify", help="read all that is kept, with its checksums; code 1 if something is missing")
    one.set_defaults(work=_verify)

    one = actions.add_parser("export", help="print what is kept, one frame a line, as JSON")
    where = 'a position, a time (RFC 3339), "24 h" for so long ago'
    one.add_argument("--from", dest="start", metavar="WHERE", help=f"{where}; default: the oldest")
    one.add_argument("--to", metavar="WHERE", help="up to there, and not with it; default: what there is now")
    one.add_argument("--raw", action="store_true", help="the frames as they came, each with a line feed behind it")
    one.set_defaults(work=_export)

    one = actions.add_parser("repair", help="take out what cannot be read, so that the rest can; no server may run")
    one.set_defaults(work=_repair)

    one = actions.add_parser(
        "cursors",
        help="where each handler stands; rename or drop the cursor of one that is not in the settings",
        usage="%(prog)s [rename OLD NEW | drop NAME] [options]",
    )
    one.add_argument("words", nargs="*", metavar="rename OLD NEW | drop NAME")
    one.set_defaults(work=_cursors)
    for one in actions.choices.values():
        add_target(one)
        one.set_defaults(function=_run)


def _run(arguments: argparse.Namespace) -> int:
    def work() -> int:
        if arguments.work is _repair:
            return int(_repair(arguments))
        if arguments.work is _cursors:
            _check_words(arguments.words)
        with target(arguments) as found:
            return int(arguments.work(arguments, found))

    return ended("journal", work)


def _info(arguments: argparse.Namespace, server: Target) -> int:
    found = server.ask("GET", "/v1/journal")
    _printing.write(_printing.as_json(found) if arguments.json else _printing.fields(found))
    return 0


def _verify(arguments: argparse.Namespace, server: Target) -> int:
    if not server.live:
        return _verify_files(arguments, server)
    total = server.ask("GET", "/v1/journal/verify")
    part = total
    while part["next"] is not None:
        part = server.ask("GET", "/v1/journal/verify", {"from": part["next"], "to": total["to"]})
        for key in ("batches", "frames"):
            total[key] += part[key]
        total["missing"] += part["missing"]
    del total["next"]
    lost = sum(end - start for start, end in total["missing"])
    if arguments.json:
        _printing.write(_printing.as_json({**total, "lost": lost}))
        return 1 if lost else 0
    where = f"positions {total['from']} to {total['to']}"
    _printing.write(f"{total['frames']} frames in {total['batches']} batches can be read, {where}\n")
    for start, end in total["missing"]:
        _printing.write(f"missing: positions {start} to {end}\n")
    if lost:
        _printing.write(f"{lost} frames cannot be read\n")
    return 1 if lost else 0


def _verify_files(arguments: argparse.Namespace, server: Any) -> int:
    """Each file with SQLite's own check besides, where no server has them open."""
    reports = list(server.verify())
    nothing = "there is nothing in this journal"
    _printing.write(_printing.listing(reports, _SEGMENT_HEADERS, _SEGMENT_COLUMNS, nothing, arguments.json))
    return 0 if all(report["ok"] for report in reports) else 1


def _export(arguments: argparse.Namespace, server: Target) -> int:
    # The end is settled first: a busy server would never be done.
    last = when(arguments.to) or server.ask("GET", "/v1/journal")["committed"]
    start: Any = when(arguments.start) or "beginning"
    while start is not None:
        page = server.ask("GET", "/v1/journal/frames", {"from": start, "to": last})
        for frame in page["frames"]:
            if arguments.raw:
                _printing.write_bytes(_raw(frame) + b"\n")
            else:
                _printing.write(_printing.as_json(frame))
        start = page["next"]
    return 0


def _raw(frame: dict[str, Any]) -> bytes:
    return frame["frame"].encode() if "frame" in frame else base64.b64decode(frame["frame_base64"])


def _repair(arguments: argparse.Namespace) -> int:
    from eventserver.cli._offline import repair

    reports = repair(folder_of_nobody(arguments))
    if arguments.json:
        _printing.write("".join(map(_printing.as_json, reports)))
    elif not reports:
        _printing.write("nothing had to be mended\n")
    for report in () if arguments.json else reports:
        lost = report["end"] - report["first"] - report["saved"]
        _printing.write(f"{escape_text(str(report['path']))}: {report['saved']} frames saved, {lost} lost\n")
    return 0


def _check_words(words: list[str]) -> None:
    right = {0: True, 2: words[:1] == ["drop"], 3: words[:1] == ["rename"]}
    if not right.get(len(words), False):
        raise CommandError("journal cursors [rename OLD NEW | drop NAME]", 2)


def _cursors(arguments: argparse.Namespace, server: Target) -> int:
    words = arguments.words
    if not words:
        return _list_cursors(arguments, server)
    if words[0] == "drop":
        found = server.ask("POST", "/v1/journal/cursors/drop", None, {"name": words[1]})
        said = f"cursor {words[1]} is dropped"
    else:
        found = server.ask("POST", "/v1/journal/cursors/rename", None, {"old": words[1], "new": words[2]})
        said = f"cursor {words[1]} is {words[2]} now"
    _printing.write(_printing.as_json(found) if arguments.json else escape_text(said) + "\n")
    return 0


def _list_cursors(arguments: argparse.Namespace, server: Target) -> int:
    found = server.ask("GET", "/v1/journal/cursors")["cursors"]
    _printing.write(_printing.listing(found, _HEADERS, _COLUMNS, "there are no cursors", arguments.json))
    return 0
