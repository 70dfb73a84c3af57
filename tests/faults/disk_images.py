"""What a disk may hold after a power cut, built from the log of a `CrashingDisk`.

What was synced is there. Of the rest each 512-byte sector, each truncate and each change of a folder is there with
the probability one half, in the order in which it was done, chosen by a seeded generator.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.faults.crashing_disk import Op

SECTOR = 512


class _Contents:
    """A file: what is durable, and what was done since the last sync."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending: list[Op] = []

    def settle(self, chance: random.Random | None) -> None:
        """Sync everything, or with a generator what it chooses."""
        for op in self.pending:
            apply(self.durable, op, chance)
        self.pending = []

    def image(self, chance: random.Random) -> bytearray:
        content = bytearray(self.durable)
        for op in self.pending:
            apply(content, op, chance)
        return content


def apply(content: bytearray, op: Op, chance: random.Random | None) -> None:
    """One write or truncate; of a write, sector by sector, what the generator chooses."""
    if op.kind == "truncate":
        if chance is None or chance.random() < 0.5:
            del content[op.offset :]
            content.extend(bytes(max(0, op.offset - len(content))))
        return
    if chance is None:
        _put(content, op.offset, op.data)
        return
    start, end = op.offset, op.offset + len(op.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        if chance.random() < 0.5:
            _put(content, start, op.data[start - op.offset : stop - op.offset])
        start = stop


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class DiskImages:
    """Goes through a log; at each point `write_image` makes a folder of what could be on the disk then."""

    def __init__(self, log: Sequence[Op]) -> None:
        self._log = log
        self.at = 0
        #: The marks passed so far.
        self.marks: list[Any] = []
        self._files: dict[int, _Contents] = {}
        self._names: dict[str, int] = {}  # a folder is file 0
        self._pending: dict[str, list[Op]] = {}  # by folder, what was done in it since its last sync

    def go_to(self, point: int) -> None:
        """Moves on to the moment before line `point` of the log."""
        while self.at < point:
            self._pass(self._log[self.at])
            self.at += 1

    def points(self, number: int, chance: random.Random, start: int = 0) -> Iterator[int]:
        """Goes to that many moments, chosen by the generator, in their order.

        Half of them are anywhere, half soon after names have changed or a promise was made.
        """
        end = len(self._log)
        special = [at for at in range(start, end) if self._log[at].kind not in ("write", "sync", "truncate")] or [start]
        anywhere = [chance.randint(start, end) for _ in range(number - number // 2)]
        soon = [min(end, chance.choice(special) + chance.randint(1, 6)) for _ in range(number // 2)]
        for point in sorted(anywhere + soon):
            self.go_to(point)
            yield point

    def write_image(self, folder: Path, chance: random.Random) -> None:
        """Makes `folder` anew, as the disk could be after a power cut at this moment."""
        names = dict(self._names)
        for ops in self._pending.values():
            for op in ops:
                if chance.random() < 0.5:
                    _change(names, op)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in sorted(names, key=lambda path: path.count("/")):
            if os.path.dirname(path) and not (folder / path).parent.is_dir():
                continue  # the entry of its folder is not there
            if names[path]:
                (folder / path).write_bytes(self._files[names[path]].image(chance))
            else:
                (folder / path).mkdir(exist_ok=True)

    def _pass(self, op: Op) -> None:
        if op.kind == "mark":
            self.marks.append(op.data)
        elif op.kind in ("write", "truncate"):
            self._files[op.file].pending.append(op)
        elif op.kind == "sync":
            self._files[op.file].settle(None)
        elif op.kind == "lost":
            self._files[op.file].settle(random.Random(op.data))
        elif op.kind == "syncdir":
            for change in self._pending.pop(op.path, ()):
                _change(self._names, change)
        else:
            if op.kind == "create":
                self._files[op.file] = _Contents()
            self._pending.setdefault(os.path.dirname(op.path), []).append(op)


def _change(names: dict[str, int], op: Op) -> None:
    """One change of a folder."""
    if op.kind in ("create", "mkdir"):
        names[op.path] = op.file
    elif op.kind == "rename":
        if op.path in names:
            names[op.data] = names.pop(op.path)
    else:
        names.pop(op.path, None)
