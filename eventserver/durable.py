"""What a journal on disk promises besides `IJournal`: it survives the process, and its history can be looked at.

Positions are those of `IJournal`: they count frames, from 0 in a new journal, and go on after a restart.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Sequence

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import Attribute

from eventserver.counters import Timings
from eventserver.interfaces import Entry, IJournal, Parked


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """Where one handler stands. `active` is False for a cursor whose handler is not in the settings (any more).

    `seen` is when a handler of that name last had it. Times are aware UTC.
    """

    name: str
    position: int
    active: bool
    seen: dt.datetime
    parked: int = 0
    dead: int = 0


class DecoderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The last settings of a decoder that a listener had: `options` is the JSON of its options."""

    listener: str
    decoder: str
    options: bytes


class IDurableJournal(IJournal):
    """A journal that is on disk. Everything is called in the reactor's thread; nothing here waits for the disk but
    `open`, which a server calls before it listens, what returns a Deferred, and `dead` and `retry_dead`: a server that
    runs asks with `read_dead` and `revive_dead` instead.

    `committed` follows `head`: a batch is committed when its group commit has been fsynced. `commit_cursor` takes
    effect at once and is written soon, together with those of the others: a restart may bring a handler again what it
    had done in the last moments, never less than it has not.

    `parked(name)` gives only what waits for another attempt; dead letters are asked for by `dead`.

    `drop_reader` forgets a cursor, active or not, and what is parked for it, and keeps its dead letters: those of a
    replay that has ended can still be looked at. `retry_dead` works for a name without a cursor too, and a `reader`
    made for that name afterwards finds what is parked.
    """

    first: int = Attribute("The position before the oldest frame that is kept.")
    max_dead_bytes: int = Attribute("The bound for dead letters; whoever has an event to give up asks `dead_bytes`.")
    unwell: str | None = Attribute("Why nothing can be stored now, for people (disk full, ...); None while it can.")
    commit_times: Timings = Attribute("How long group commits took.")
    accepting: bool = Attribute("False while `append` must not be called: it is unwell, and holds all it may hold.")

    def open() -> None:
        """Lock the folder, read what is there, get ready. Raises `ValueError` with a sentence for people: another
        server has it, its format is newer, it cannot be read or written."""

    def flush() -> Deferred[None]:
        """Fires when the cursors, and all else that is written soon, are on the disk as they are now.

        A server waits for it before it listens: new cursors are known after a crash then. Fails if that cannot be.
        """

    def close() -> Deferred[None]:
        """Commit what was appended, and the cursors; let go of the folder. Fires when all that is done."""

    def on_change(callback: Callable[[], None]) -> None:
        """Call `callback()` when `unwell` or `accepting` has changed, or when room was made."""

    def on_lost(callback: Callable[[int, int], None]) -> None:
        """Call `callback(start, end)` when frames after `start` up to `end` are found to be damaged, before any cursor
        that had yet to get them moves over them."""

    def lost_ranges() -> Sequence[tuple[int, int]]:
        """The positions of frames that were here and cannot be read any more, in order."""

    # Cursors

    def cursors() -> list[Cursor]:
        """All cursors, in the order of their names."""

    def rename_cursor(old: str, new: str) -> None:
        """Give a cursor that is not active another name, with what is parked and dead. Raises `ValueError`."""

    def drop_cursor(name: str) -> None:
        """Forget a cursor that is not active, with what is parked and dead. Raises `ValueError`."""

    # History

    def position_at(time: dt.datetime) -> int:
        """A position before the first batch kept that was received at that time or later; `head` if none was.

        It may be up to about 1 MiB of batches before that one: whoever reads on from there skips by `received`.
        """

    def read_between(start: int, end: int, max_bytes: int) -> Deferred[list[Entry]]:
        """The committed entries that have frames from `start` up to `end`, the first `max_bytes` of them (soft by one
        entry). No cursor is needed, and none moves; what has been freed is left out. Empty at the end."""

    # Dead letters

    def dead(handler: str | None = None, after: int = 0, limit: int = 1000) -> list[tuple[int, Parked]]:
        """Dead letters, oldest first, of one handler or all, each with its number; those behind number `after`.

        Waits for the disk, since they are not in memory. Raises `OSError` where it does not give them now.
        """

    def read_dead(handler: str | None = None, after: int = 0, limit: int = 1000) -> Deferred[list[tuple[int, Parked]]]:
        """As `dead`, without waiting; fails with `OSError`."""

    def dead_bytes() -> int:
        """Bytes that dead letters take: on the disk, and some 600 bytes for each that it takes in memory."""

    def drop_dead(numbers: Collection[int]) -> int:
        """Forget dead letters; returns how many there were."""

    def retry_dead(numbers: Collection[int], now: dt.datetime) -> list[Parked]:
        """Make parked events of dead letters, due now and with no attempts so far; returns them as they are now.

        Waits for the disk, as `dead` does.
        """

    def revive_dead(numbers: Collection[int], now: dt.datetime) -> Deferred[list[Parked]]:
        """As `retry_dead`, without waiting; fails with `OSError`, and nothing has changed then."""

    def on_dead_changed(callback: Callable[[], None]) -> None:
        """Call `callback()` when dead letters have been dropped or made parked events again: there is room."""

    # What senders repeat

    def recall(scope: str, key: str) -> int | None:
        """The position of the frame that was remembered under that key and is still within the window, or None."""

    def remember(scope: str, keys: Sequence[tuple[str, int]]) -> None:
        """Remember keys, each with the position behind its frame. Written with the next group commit, the one that
        holds the frames: both are there after a restart, or neither. Bounded by number and age: the oldest go first.
        """

    # Settings

    def keep_decoders(settings: Sequence[DecoderSettings]) -> None:
        """Remember the settings of decoders, so that old batches can be read when the listener is gone."""

    def kept_decoders() -> list[DecoderSettings]:
        """What `keep_decoders` was told last, by listener and decoder."""
