"""The console handler, on files, pipes and terminals."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from eventserver.errors import TemporaryFailure
from eventserver.handlers import _output
from eventserver.handlers.console import ConsoleHandler
from tests.handlers.fakes import FakeReactor, Log, make_batch, make_context, make_event, make_events


def make(fd: int, format_: str = "json", reactor: Any = None, log: Log | None = None, **changes: Any) -> ConsoleHandler:
    contextual = {"needs_events": changes.pop("needs_events")} if "needs_events" in changes else {}
    environment = changes.pop("environment", {})
    context = make_context(reactor, log, parts={"format": format_}, **contextual)
    handler = ConsoleHandler(ConsoleHandler.Options(format=format_, **changes), context, fd, environment)
    handler.start()
    return handler


def failure_of(deferred: Deferred[None] | None) -> BaseException | None:
    assert deferred is not None
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "still waiting"
    return results[0].value if isinstance(results[0], Failure) else None


@pytest.fixture
def descriptors() -> Iterator[Callable[..., tuple[int, ...]]]:
    """Keeps descriptors, and closes those that the test leaves open."""
    kept: set[int] = set()

    def keep(*fds: int) -> tuple[int, ...]:
        kept.update(fds)
        return fds

    yield keep
    for fd in kept:
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture
def pipe(descriptors: Any) -> tuple[int, int]:
    """A pipe with the smallest buffer."""
    reader, writer = descriptors(*os.pipe())
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    return reader, writer


class TestContent:
    def test_events_are_json_lines_in_a_file(self, tmp_path: Path, descriptors: Any) -> None:
        (fd,) = descriptors(os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT))
        assert make(fd).handle(make_events(3)) is None
        written = (tmp_path / "out").read_text().splitlines()
        assert [json.loads(line)["message"] for line in written] == ["m0", "m1", "m2"]

    def test_raw_frames_need_no_events(self, pipe: tuple[int, int]) -> None:
        reader, writer = pipe
        handler = make(writer, "raw")
        assert (handler.wants, handler.wants_raw) == ("frames", False)
        assert handler.handle([make_batch(b"a", b"b")]) is None
        assert os.read(reader, 100) == b"a\nb\n"
        handler = make(writer, "raw", needs_events=True)
        assert (handler.wants, handler.wants_raw) == ("events", True)
        assert handler.handle([make_event(raw="as it came")]) is None
        assert os.read(reader, 100) == b"as it came\n"

    @pytest.mark.parametrize(
        ("colour", "environment", "terminal", "coloured"),
        [
            (None, {}, True, True),
            (None, {"NO_COLOR": "1"}, True, False),
            (None, {"NO_COLOR": ""}, True, True),
            (None, {}, False, False),
            (False, {}, True, False),
        ],
    )
    def test_text_is_coloured_on_terminals(
        self, descriptors: Any, colour: bool | None, environment: dict[str, str], terminal: bool, coloured: bool
    ) -> None:
        reader, writer = descriptors(*(os.openpty() if terminal else os.pipe()))
        handler = make(writer, "text", colour=colour, environment=environment)
        handler.handle([make_event(fields={"severity": "err", "severity_code": 3})])
        written = os.read(reader, 1000)
        assert b"m0" in written
        assert (b"\x1b[" in written) == coloured

    def test_a_daemon_is_warned_that_nobody_listens(self, descriptors: Any) -> None:
        (fd,) = descriptors(os.open(os.devnull, os.O_WRONLY))
        log = Log()
        assert make(fd, log=log).handle(make_events(1)) is None
        assert "/dev/null" in log.lines[0]

    def test_a_closed_descriptor_is_a_wrong_setting(self, descriptors: Any) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        with pytest.raises(ValueError, match="standard output cannot be written"):
            make(writer)


class TestBlocking:
    """Nobody reads, or not at once."""

    def test_small_writes_to_a_pipe_with_room_are_direct(self, pipe: tuple[int, int]) -> None:
        reactor = FakeReactor()
        assert make(pipe[1], reactor=reactor).handle(make_events(2)) is None
        assert reactor.hops == 0

    def test_a_full_pipe_is_waited_for_in_a_thread(self, pipe: tuple[int, int]) -> None:
        reader, writer = pipe
        reactor = FakeReactor(hold=True)
        handler = make(writer, "raw", reactor)
        os.write(writer, b"x" * 4096)
        deferred = handler.handle([make_batch(b"a")])
        assert deferred is not None
        assert not deferred.called or deferred.paused
        assert os.read(reader, 5000) == b"x" * 4096
        reactor.run_thread()
        assert failure_of(deferred) is None
        assert os.read(reader, 5000) == b"a\n"

    @pytest_twisted.ensureDeferred
    async def test_a_slow_reader_gets_all_of_a_large_write(self, pipe: tuple[int, int]) -> None:
        from twisted.internet import reactor

        reader, writer = pipe
        os.set_blocking(reader, False)
        payload = b"y" * 50_000
        deferred = make(writer, "raw", reactor).handle([make_batch(payload, b"end")])
        assert deferred is not None
        read = bytearray()
        while not deferred.called or len(read) < len(payload) + 5:
            await deferLater(reactor, 0.001)  # type: ignore[arg-type]
            try:
                read += os.read(reader, 3000)
            except BlockingIOError:
                continue
        await deferred
        assert bytes(read) == payload + b"\nend\n"

    def test_after_a_while_without_a_reader_the_destination_is_unwell(
        self, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The line that was cut off is completed by the next write, before anything else."""
        reader, writer = pipe
        reactor = FakeReactor()
        monkeypatch.setattr(_output, "_LOOK_UP", 0)
        monkeypatch.setattr(reactor, "seconds", iter(range(0, 1000, 6)).__next__)
        handler = make(writer, "raw", reactor)
        error = failure_of(handler.handle([make_batch(b"a" * 5000, b"second line")]))
        assert isinstance(error, TemporaryFailure)
        error = failure_of(handler.handle([make_batch(b"not even begun")]))
        assert isinstance(error, TemporaryFailure)
        assert os.read(reader, 10_000) == b"a" * 4096
        assert handler.handle([make_batch(b"third line")]) is None
        assert os.read(reader, 10_000) == b"a" * 904 + b"\nthird line\n"

    def test_a_reader_that_is_gone_is_a_temporary_failure(self, descriptors: Any) -> None:
        reader, writer = os.pipe()
        descriptors(writer)
        handler = make(writer)
        os.close(reader)
        with pytest.raises(TemporaryFailure, match="standard output is closed"):
            handler.handle(make_events(1))

    def test_a_call_that_is_cancelled_is_a_temporary_failure_too(self, pipe: tuple[int, int]) -> None:
        """It is about the reader, not about an event; no second thread is started meanwhile."""
        reactor = FakeReactor(hold=True)
        handler = make(pipe[1], "raw", reactor)
        deferred = handler.handle([make_batch(b"z" * 5000)])
        assert deferred is not None
        deferred.cancel()
        assert isinstance(failure_of(deferred), TemporaryFailure)
        assert handler.busy
        with pytest.raises(TemporaryFailure):
            handler.handle([make_batch(b"more")])

    def test_writes_stay_in_order_behind_one_that_waits(self, pipe: tuple[int, int]) -> None:
        reader, writer = pipe
        reactor = FakeReactor(hold=True)
        handler = make(writer, "raw", reactor)
        os.write(writer, b"x" * 4096)
        first, second = handler.handle([make_batch(b"1")]), handler.handle([make_batch(b"2")])
        assert len(reactor.held) == 1
        written = os.read(reader, 5000)
        reactor.run_thread()
        written += os.read(reader, 5000)
        reactor.run_thread()
        assert failure_of(first) is None
        assert failure_of(second) is None
        assert written + os.read(reader, 5000) == b"x" * 4096 + b"1\n2\n"
