"""What was sent, what was acknowledged, what was delivered: by sequence number, and by event id.

Every message carries its number and can be made again from it, so that a wrong byte is seen. The recording handler
(`RECORDER`, a module that the server loads) appends one line an event to a file, all of a pile in one write, before
it says that it is done.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

#: Bytes of a message unless a test says otherwise.
SIZE = 300
#: The handlers: `call = "recorder:record"`, with a wait in each call `recorder:record_slowly`, at an even pace
#: `recorder:record_evenly`, and `recorder:record_some`, which fails for every 97th message. They write to
#: `recorded.txt` in the server's folder, and are unwell while there is a file `down`. `recorder:record_delays` writes
#: the seconds since each event was received to `delays.txt`, and is never unwell.
RECORDER = '''
"""Writes the id, number and checksum of every event to a file; a new process begins with a line of its own."""

import os
import time
import zlib

from eventserver import Event, TemporaryFailure

FILE = os.open("recorded.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
# A line that the last process did not finish ends here.
os.write(FILE, b"\\nprocess\\n")


def record(events: list[Event]) -> None:
    if os.path.exists("down"):
        raise TemporaryFailure("down", retry_after=0.1)
    lines = [f"{e.id} {e.message[:10]} {zlib.crc32(e.message.encode()):08x}.\\n" for e in events]
    data = "".join(lines).encode()
    while data:
        data = data[os.write(FILE, data) :]


def record_some(events: list[Event]) -> None:
    if any(int(event.message[:10]) % 97 == 0 for event in events):
        raise ValueError("not this one")
    record(events)


def record_evenly(events: list[Event]) -> None:
    # 20,000 a second: more than most destinations take.
    time.sleep(50e-6 * len(events))
    record(events)


def record_delays(events: list[Event]) -> None:
    now = time.time()
    with open("delays.txt", "a") as file:
        file.writelines(f"{now - event.received.timestamp():.6f}\\n" for event in events)


async def record_slowly(events: list[Event]) -> None:
    from twisted.internet import reactor, task

    # Tests make the file when there is nothing to wait for any more.
    await task.deferLater(reactor, 0 if os.path.exists("quick") else 0.6)
    record(events)
'''
_LINE = re.compile(rb"(\S+-[\d.]+) (\d{10}) ([0-9a-f]{8})\.")


def message(number: int, size: int = SIZE) -> bytes:
    """Message number `number`: text without line ends, the same every time."""
    head = b"%010d " % number
    word = b"%08x " % (zlib.crc32(head))
    return (head + word * (size // len(word) + 1))[:size]


class Recorded(msgspec.Struct):
    """What the recording handler wrote: by id, the number and in which processes; lines that are wrong."""

    numbers: dict[str, int]
    times: Counter[str]
    again: list[int]  # by process, events that an earlier process had recorded already
    twice: list[int]  # by process, events that it recorded more than once itself
    corrupted: list[str]

    @classmethod
    def read(cls, path: Path, size: int = SIZE) -> Recorded:
        """Reads the file; an unfinished line, which a killed process left, is no event."""
        found = cls({}, Counter(), [], [], [])
        before: set[str] = set()
        here: set[str] = set()
        for line in path.read_bytes().split(b"\n") if path.exists() else ():
            if line == b"process":
                before |= here
                here = set()
                found.again.append(0)
                found.twice.append(0)
            elif match := _LINE.fullmatch(line):
                event, number = match[1].decode(), int(match[2])
                if found.numbers.setdefault(event, number) != number:
                    found.corrupted.append(f"{event} was {found.numbers[event]} and is {number}")
                if int(match[3], 16) != zlib.crc32(message(number, size)):
                    found.corrupted.append(f"{event} ({number}) has another text")
                found.again[-1] += event in before and event not in here
                found.twice[-1] += event in here
                found.times[event] += 1
                here.add(event)
        return found


class Oracle:
    """Collects what clients say, and judges what was recorded. Numbers are given out by `next_number`."""

    def __init__(self) -> None:
        self.sent: Counter[int] = Counter()
        self.acked: set[int] = set()

    def problems(self, recorded: Recorded) -> list[str]:
        """What is wrong; empty if everything acknowledged was recorded, and nothing that was not sent."""
        delivered = Counter(recorded.numbers.values())
        lost = sorted(self.acked - delivered.keys())
        invented = sorted(delivered.keys() - self.sent.keys())
        more = sorted(number for number, ids in delivered.items() if ids > self.sent[number] > 0)
        return [
            *_some("acknowledged and lost", lost),
            *_some("never sent", invented),
            *_some("with more ids than they were sent times", more),
            *_some("corrupted", recorded.corrupted),
        ]

    def undelivered(self, recorded: Recorded) -> int:
        """How many acknowledged messages have not been recorded (yet)."""
        return len(self.acked - set(recorded.numbers.values()))


def _some(what: str, found: Iterable[object]) -> list[str]:
    all_found = list(found)
    return [f"{len(all_found)} {what}: {', '.join(map(str, all_found[:5]))}"] if all_found else []
