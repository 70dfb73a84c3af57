"""Events (or raw frames) appended to files whose names come from a template."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver import options
from eventserver.errors import TemporaryFailure
from eventserver.handlers._files import Files
from eventserver.handlers._lines import LineWriter
from eventserver.handlers._paths import PathTemplate
from eventserver.handlers._threads import OneThread
from eventserver.interfaces import HandlerContext, IHandler, IReopen, Wants
from eventserver.options import Doc, Size

#: Larger writes go to a thread; so do all after one that took longer than `_SLOW` seconds, until one is quick again.
_SMALL = 1024 * 1024
_SLOW = 0.010
#: Seconds for which a file that was there is taken to be there, without `sync`.
_LOOK = 1.0


@implementer(IHandler, IReopen)
class FileHandler:
    """Appends to files, one write a file for each pile.

    To return is to say: written, and with `sync` on the disk (one fdatasync a file for each pile). A full or failing
    disk is a temporary failure: what the pile has written is taken back, and it comes again. Files are opened again on
    SIGHUP, so logrotate may move them; one that was deleted is made anew, with `sync` at once, else within a second.
    Folders are made with mode 0750. Symbolic links below the folder that comes before the first place are not
    followed.

    Events go to the file `overflow` in that folder if theirs would be one new file too many in this minute, or
    something that is not a file has its name.
    """

    class Options(options.Options, frozen=True, kw_only=True):
        """Where to, and how."""

        path: Annotated[
            str,
            Doc(
                "The file. Places such as `{listener}`, `{time:%Y-%m-%d}` or `{hostname}` take an event's values,"
                " escaped so that the path never leaves the folder before the first place.",
                "/var/log/events/{listener}-{time:%Y-%m-%d}.jsonl",
            ),
        ]
        format: Annotated[str, Doc("The encoder: `json`, `raw`, `text`, `template`, ...", "raw")] = "json"
        mode: Annotated[str, Doc("The permissions of new files, in octal.", "0600", pattern="^0?[0-7]{3}$")] = "0640"
        sync: Annotated[
            bool | None,
            Doc("Have each pile on the disk before it counts as done. Default: yes, where there is a journal.", True),
        ] = None
        max_open_files: Annotated[int, Doc("Files that stay open between piles.", 256, ge=1)] = 256
        max_new_files_per_minute: Annotated[
            int, Doc("Files that a minute may create; further events go to the file `overflow`.", 50, ge=1)
        ] = 50

        def problems(self) -> list[tuple[str, str]]:
            """A path that cannot be understood."""
            try:
                PathTemplate(self.path)
            except ValueError as error:
                return [("path", str(error))]
            return []

    parts: ClassVar = {"format": "eventserver.encoders"}
    #: A pile is one write, and with `sync` one `fdatasync`: behind the head, larger ones are cheaper.
    piles: ClassVar = {"max_events": 10_000, "max_bytes": Size(4 << 20)}

    def __init__(self, options: Options, context: HandlerContext) -> None:
        self._context = context
        self._seconds = context.reactor.seconds
        self._path = PathTemplate(options.path)
        writer = LineWriter(context.parts["format"](), context, needs_events=not self._path.of_listener)
        self.wants: Wants = writer.wants
        self.wants_raw: bool = writer.wants_raw
        self.only_encodes: bool = writer.only_encodes
        self._lines = writer.lines
        self._literal = self._path.literal
        self._sync = context.durable if options.sync is None else options.sync
        self._files = Files(
            self._path.base,
            mode=int(options.mode, 8),
            sync=self._sync,
            max_open=options.max_open_files,
            max_new=options.max_new_files_per_minute if self._path.literal is None else None,
            seconds=context.reactor.seconds,
        )
        self._thread = OneThread(context)
        self._slow = False
        self._reopen = False
        self._look_at = 0.0
        self._overflowed = 0

    @property
    def busy(self) -> bool:
        """True while a write that took too long still runs."""
        return self._thread.busy

    @property
    def counts(self) -> Counter[str]:
        """What became of files: `created`, `overflow`, `undone`."""
        return self._files.counts

    def start(self) -> None:
        """Open the folder, and the file where there is just one. Raises `ValueError` if that fails."""
        try:
            self._files.open_base()
            if self._path.literal is not None:
                self._files.open_now(self._path.literal)
        except OSError as error:
            raise ValueError(f"{self._path.text} cannot be written: {error.strerror}") from error

    def handle(self, pile: list[Any]) -> Deferred[None] | None:
        """Append the pile; see `IHandler.handle`."""
        if self._literal is None:
            parts = self._encode(pile)
            size = sum(map(len, parts.values()))
        else:
            data = self._lines(pile)
            size = len(data)
            if size <= _SMALL and not self._slow and not self._reopen and self._thread.idle:
                before = self._seconds()
                if before >= self._look_at:
                    # The longer way looks whether somebody has deleted the file.
                    self._look_at = before + _LOOK
                elif self._files.append_now(self._literal, data):
                    self._slow = self._seconds() - before > _SLOW
                    return None
            parts = {self._literal: data}
        quick = size <= _SMALL and not (self._sync or self._slow or self._reopen)
        if not (quick and self._thread.idle and self._files.has_open(parts)):
            return self._thread.run_in_turn(self._append, parts, size).addCallbacks(self._warn, _too_long)
        self._append(parts, size)
        return None

    def reopen(self) -> None:
        """Close all files; what is written next opens them again."""
        if self._thread.idle:
            self._files.close()
        else:
            self._reopen = True

    def stop(self) -> Deferred[None] | None:
        """Close the files, after the write that runs. One that hangs keeps its files until the process ends."""
        if self._thread.busy:
            self._thread.stop()
            return None
        return self._thread.run_in_turn(self._files.close).addBoth(self._closed)

    def _closed(self, result: Any) -> Any:
        self._thread.stop()
        return result

    def _encode(self, pile: list[Any]) -> dict[str, bytes]:
        groups = self._path.group(pile) if self.wants == "events" else self._path.group_batches(pile)
        return {path: self._lines(items) for path, items in groups.items()}

    def _append(self, parts: dict[str, bytes], size: int) -> None:
        if self._reopen:
            self._reopen = False
            self._files.close()
        before = self._seconds()
        self._files.append(parts)
        if size <= _SMALL:
            self._slow = self._seconds() - before > _SLOW

    def _warn(self, _: None) -> None:
        overflowed = self._files.counts["overflow"]
        if overflowed and not self._overflowed:
            self._context.log.warn(
                "{handler}: some events have no file of their own (too many new files, or something else has their"
                " name) and go to {folder}/overflow",
                handler=self._context.name,
                folder=self._path.base,
            )
        self._overflowed = overflowed


def _too_long(failure: Failure) -> None:
    # Delivery's time limit says something about the disk here, not about an event.
    failure.trap(CancelledError)
    raise TemporaryFailure("the write took too long")
