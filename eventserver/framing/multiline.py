"""A framer round a framer: joins the lines that belong to one event, such as a stack trace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from zope.interface import implementer

from eventserver._patterns import compile_pattern
from eventserver.framing._base import OVERSIZE, Framer, FramerOptions
from eventserver.framing._continuation import rule_of
from eventserver.interfaces import Fault, IFramer
from eventserver.options import Doc, Duration

_TOO_MANY = "too_many_lines"


@implementer(IFramer)
class MultilineFramer(Framer):
    """Joins frames of the inner framer ("lines") with LF, by a rule that says which of them begin an event.

    The lines of an event are held until the next event begins, `flush_after` has passed, or the stream ends. They
    have a bound of their own, `max_frame`, besides what the inner framer holds. An event over it is treated at once,
    as every framer does: its head is returned and the lines that still belong to it are skipped (or all of it is
    refused, or the stream is given up). After `max_lines` lines the event is returned with the fault
    `too_many_lines`, and the next line begins another.

    What the inner framer says of a line it says of the event that holds it.
    """

    class Options(FramerOptions, frozen=True, kw_only=True):
        """The table `multiline = {...}`; `max_frame` and `oversize` are about the joined lines."""

        start: Annotated[
            str | None,
            Doc(
                "A regular expression, as in `matches(x, ...)`: a line begins an event if it is found in the line's "
                "first 1,024 bytes.",
                r"^\S",
                r"^\d{4}-\d\d-\d\d ",
            ),
        ] = None
        mode: Annotated[
            Literal["indented", "python", "java"] | None,
            Doc(
                "Instead of `start`: lines that begin with a space or tab go on, or tracebacks of Python or Java do.",
                "python",
            ),
        ] = None
        max_lines: Annotated[int, Doc("The lines of one event, at most.", 500, ge=1)] = 500
        flush_after: Annotated[
            Duration, Doc("An event to which nothing was added for this long is complete.", "1 s", ge=0)
        ] = Duration(1)

        def problems(self) -> Iterable[tuple[str, str]]:
            """Neither or both of `start` and `mode`, and expressions that could take too long."""
            if (self.start is None) == (self.mode is None):
                yield "start", "give either `start` or `mode`"
            try:
                compile_pattern(self.start or "")
            except ValueError as error:
                yield "start", str(error)

    def __init__(self, options: Options, inner: IFramer) -> None:
        """Raises `ValueError` for options that have `problems()`."""
        super().__init__(options)
        for key, sentence in options.problems():
            raise ValueError(f"multiline.{key}: {sentence}")
        self._inner = inner
        self._goes_on = rule_of(options.start, options.mode)
        self._max_lines = options.max_lines
        self._flush_after = float(options.flush_after)
        self._lines: list[bytes] = []  # of the event in progress
        self._size = 0  # of those, joined
        self._marks: list[str] = []  # reasons of the inner framer's faults in those
        self._skipping = False  # the event in progress was over the limit and is dealt with
        self._changed = False  # since the latest call of `expire`
        self._since = 0.0  # when `expire` first saw the event as it is

    @property
    def partial(self) -> bool:
        """As the inner framer: lines that wait for a possible next one are not a frame that is stuck."""
        return bool(self._inner.partial) and not self._dead

    @property
    def held(self) -> int:
        """The bytes of the event in progress; what the inner framer holds is not in it."""
        return self._size

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete because another begins in `data`."""
        self.faults = ()
        return [] if self._dead else self._group(self._inner.feed(data))

    def expire(self, now: float) -> list[bytes]:
        """The event in progress, if `flush_after` passed since a call of `expire` first saw it as it is.

        There is no other clock, so it is flushed up to one sweep late.
        """
        self.faults = ()
        if self._dead:
            return []
        frames = self._group(self._inner.expire(now))
        if self._changed:
            self._changed = False
            self._since = now
        if now - self._since >= self._flush_after:
            self._flush(frames)
        return frames

    def finish(self) -> list[bytes]:
        """The events that are left."""
        self.faults = ()
        if self._dead:
            return []
        frames = self._group(self._inner.finish())
        self._flush(frames)
        return frames

    def rest(self) -> bytes:
        """The lines of the event in progress, framed as the inner framer frames, and what that one holds."""
        lines = b"".join(map(self._inner.wrap, self._lines))
        self._forget()
        return lines + self._inner.rest()

    def wrap(self, payload: bytes) -> bytes:
        """As the inner framer wraps."""
        return self._inner.wrap(payload)

    def _group(self, lines: list[bytes]) -> list[bytes]:
        """The events that `lines`, just returned by the inner framer, complete."""
        frames: list[bytes] = []
        if self._inner.faults:
            self._group_marked(lines, self._inner.faults, frames)
        else:
            self._add(lines, frames)
        return frames

    def _group_marked(self, lines: list[bytes], faults: Iterable[Fault], frames: list[bytes]) -> None:
        """As `_add`, where some lines have faults: those are reported when their event is returned."""
        done = 0
        fatal = None
        for fault in faults:
            if fault.fatal:
                fatal = fault
            elif fault.frame is None:
                self._report(fault.reason, None)
            else:
                self._add(lines[done : fault.frame + 1], frames, fault.reason)
                done = max(done, fault.frame + 1)
        self._add(lines[done:], frames)
        if fatal is not None and not self._dead:
            self._flush(frames)
            kept = fatal.frame is not None and bool(frames)
            self._report(fatal.reason, len(frames) - 1 if kept else None, fatal=True)

    def _add(self, lines: list[bytes], frames: list[bytes], reason: str | None = None) -> None:
        """Sort lines into events; `reason` is a fault of the last one."""
        if reason is not None and not lines and self._lines:
            self._marks.append(reason)  # the second one of that line
        goes_on = self._goes_on
        last = len(lines) - 1
        for number, line in enumerate(lines):
            if self._dead:
                return
            if not goes_on(line):
                self._flush(frames)
            elif self._skipping:
                continue
            elif len(self._lines) >= self._max_lines:
                self._marks.append(_TOO_MANY)
                self._flush(frames)
            if reason is not None and number == last:
                self._marks.append(reason)
            self._append(line, frames)
        self._changed = self._changed or bool(lines)

    def _append(self, line: bytes, frames: list[bytes]) -> None:
        size = self._size + len(line) + (1 if self._lines else 0)
        self._lines.append(line)
        self._size = size
        if size <= self._limit:
            return
        head = b"\n".join(self._lines)[: self._limit]
        if self._oversize == "truncate":
            self._mark((mark for mark in self._marks if mark != OVERSIZE), frames)
        self._overflow(head, frames)
        self._forget()
        self._skipping = True

    def _flush(self, frames: list[bytes]) -> None:
        """The event in progress is complete."""
        lines = self._lines
        if lines:
            if self._marks:
                self._mark(self._marks, frames)
            frames.append(lines[0] if len(lines) == 1 else b"\n".join(lines))
        self._forget()

    def _mark(self, marks: Iterable[str], frames: list[bytes]) -> None:
        """Report what is wrong with lines of the event that is returned next, each reason once."""
        for reason in dict.fromkeys(marks):
            self._report(reason, len(frames))

    def _forget(self) -> None:
        self._lines = []
        self._marks = []
        self._size = 0
        self._skipping = False
