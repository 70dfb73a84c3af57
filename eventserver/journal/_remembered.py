"""What senders repeat: a window of keys, bounded by number and age, that survives a restart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from eventserver.journal._meta import Changes, Records
from eventserver.journal._records import decode_all
from eventserver.journal._rows import Key

KIND = "key"


class _Kept(msgspec.Struct, array_like=True):
    scope: str
    key: str
    position: int
    time: float


_encoder = msgspec.msgpack.Encoder()


class Remembered:
    """The newest `most` keys, for `seconds`. Times are seconds since 1970.

    What is to be written to `meta.db` is gathered until `take`; until then a key is in the row of its frames.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._changes: dict[tuple[str, str], _Kept | None] = {}
        self.expired = 0
        """Keys that had to go before their time because there were too many."""
        self._most = most
        self._seconds = seconds
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def restore(self, records: Records, rows: Iterable[tuple[Key, float]]) -> None:
        """Take over what is in `meta.db`, and in rows that were written after it."""
        found = decode_all(records, KIND, _Kept)
        for kept in sorted(found.values(), key=lambda kept: kept.time):
            self._kept[kept.scope, kept.key] = kept
        for (scope, key, position), time in rows:
            if (scope, key) not in self._kept:
                self.add(scope, key, position, time)

    def recall(self, scope: str, key: str, now: float) -> int | None:
        """The position behind the frame, if the key is within the window."""
        kept = self._kept.get((scope, key))
        return None if kept is None or kept.time + self._seconds < now else kept.position

    def add(self, scope: str, key: str, position: int, now: float) -> None:
        """Remember a key from now on."""
        name = scope, key
        kept = _Kept(scope, key, position, now)
        self._kept[name] = kept
        self._kept.move_to_end(name)
        self._changes[name] = kept
        if len(self._kept) > self._most:
            self.expired += 1
            self._forget_oldest()

    def forget(self, start: int, end: int) -> None:
        """Forget the keys of the frames after `start` up to `end`: they are gone, and are to be stored if repeated."""
        for name in [name for name, kept in self._kept.items() if start < kept.position <= end]:
            del self._kept[name]
            self._changes[name] = None

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        while self._kept and next(iter(self._kept.values())).time + self._seconds < now:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        name, _ = self._kept.popitem(last=False)
        self._changes[name] = None

    def take(self, committed: int) -> Changes:
        """What is to be written: nothing of frames that are not committed."""
        ready = {name: kept for name, kept in self._changes.items() if kept is None or kept.position <= committed}
        for name in ready:
            del self._changes[name]
        return {(KIND, _name(name)): None if kept is None else _encoder.encode(kept) for name, kept in ready.items()}


def _name(name: tuple[str, str]) -> str:
    scope, key = name
    # A length before it keeps the two apart, whatever they contain.
    return f"{len(scope)}:{scope}{key}"
