"""Reading what `meta.db` has, going on behind what is damaged or what the disk does not give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from zlib import crc32

import apsw

from eventserver.journal._reading import PASSING, passed

_RECORDS = "SELECT id, kind, key, crc, data FROM records WHERE id > ? ORDER BY id"
_NEXT = "SELECT id FROM records WHERE id > ? ORDER BY id LIMIT 1"
_PAYLOAD = "SELECT crc, data FROM payloads WHERE number=?"


def checksum(kind: str, key: str, data: bytes) -> int:
    """What is kept besides a record, or a payload."""
    return crc32(data, crc32(f"{kind}\0{key}".encode()))


def read_records(connection: apsw.Connection, final: bool) -> tuple[dict[tuple[str, str], bytes], Counter[str]]:
    """The records that are sound, and how many are not, by kind; `?` where nobody knows the kind.

    An error of the disk is raised unless this is the `final` attempt: then it costs what it hides.
    """
    records: dict[tuple[str, str], bytes] = {}
    damaged: Counter[str] = Counter()
    reached: int | None = -1
    while reached is not None:
        try:
            for number, kind, key, crc, data in connection.execute(_RECORDS, (reached,)):
                reached = number
                if isinstance(data, bytes) and checksum(kind, key, data) == crc:
                    records[kind, key] = data
                else:
                    damaged[str(kind)] += 1
            break
        except (apsw.Error, TypeError, AttributeError, UnicodeDecodeError) as error:
            if isinstance(error, PASSING) and not (final and isinstance(error, apsw.IOError)):
                raise
            damaged["?"] += 1
            reached = _behind(connection, reached)
    return records, damaged


def _behind(connection: apsw.Connection, reached: int) -> int | None:
    """A number behind which reading goes on after an error; None where nothing is left."""

    def following(number: int) -> int | None:
        found = connection.execute(_NEXT, (number,)).fetchone()
        return found[0] if found else None

    try:
        # Only its data cannot be read.
        return following(reached)
    except apsw.Error:
        further = passed(following, reached)
        return None if further is None else further - 1


def read_payloads(
    connection: apsw.Connection, keys: Sequence[str], final: bool = False
) -> tuple[dict[str, bytes], list[str]]:
    """What can be read, and what is there and cannot.

    An error of the disk is raised unless this is the `final` attempt.
    """
    found: dict[str, bytes] = {}
    unreadable: list[str] = []
    for key in keys:
        try:
            row = connection.execute(_PAYLOAD, (int(key),)).fetchone()
        except apsw.Error as error:
            if isinstance(error, PASSING) and not final:
                raise
            unreadable.append(key)
            continue
        if row is None:
            continue
        if isinstance(row[1], bytes) and checksum("payload", key, row[1]) == row[0]:
            found[key] = row[1]
        else:
            unreadable.append(key)
    return found, unreadable
