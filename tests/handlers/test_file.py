"""The file handler: what is in the files, whose name they have, and what happens when the disk is unwell."""

from __future__ import annotations

import datetime as dt
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from eventserver import options
from eventserver.errors import TemporaryFailure
from eventserver.handlers import _files, file
from eventserver.handlers._paths import PathTemplate
from eventserver.handlers.file import FileHandler
from tests.handlers.fakes import NOON, FakeReactor, Log, make_batch, make_context, make_event, make_events
from tests.patching import own_os

Make = Callable[..., FileHandler]


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """Makes a started handler with a path below `tmp_path`; they are stopped at the end."""
    made: list[FileHandler] = []

    def make(path: str, reactor: Any = None, log: Log | None = None, **changes: Any) -> FileHandler:
        contextual = {key: changes.pop(key) for key in ("durable", "needs_events") if key in changes}
        format_ = changes.setdefault("format", "json")
        context = make_context(reactor, log, parts={"format": format_}, **contextual)
        handler = FileHandler(FileHandler.Options(path=f"{tmp_path}/{path}", **changes), context)
        made.append(handler)
        handler.start()
        return handler

    yield make
    for handler in made:
        handler.stop()


def done(result: Deferred[None] | None) -> None:
    """The call has succeeded, or this raises what it failed with."""
    if result is not None:
        results: list[Any] = []
        result.addBoth(results.append)
        assert results, "still waiting"
        if isinstance(results[0], Failure):
            results[0].raiseException()


def lines(path: Path) -> list[str]:
    """The messages of a JSON file."""
    return [msgspec.json.decode(line)["message"] for line in path.read_bytes().splitlines()]


class TestContent:
    """What is written."""

    def test_events_are_json_lines(self, make: Make, tmp_path: Path) -> None:
        handler = make("all.jsonl")
        done(handler.handle(make_events(2)))
        done(handler.handle(make_events(1)))
        assert lines(tmp_path / "all.jsonl") == ["m0", "m1", "m0"]

    def test_raw_frames_are_written_without_looking_at_events(self, make: Make, tmp_path: Path) -> None:
        handler = make("{listener}.log", format="raw")
        assert (handler.wants, handler.wants_raw) == ("frames", False)
        done(handler.handle([make_batch(b"a", b"\xff"), make_batch(b"c", listener="other"), make_batch(b"d")]))
        assert (tmp_path / "tests.log").read_bytes() == b"a\n\xff\nd\n"
        assert (tmp_path / "other.log").read_bytes() == b"c\n"

    @pytest.mark.parametrize(
        ("path", "context"), [("{hostname}.log", {}), ("all.log", {"needs_events": True}), ("{time:%Y}.log", {})]
    )
    def test_raw_frames_come_with_events_where_those_are_needed(
        self, make: Make, tmp_path: Path, path: str, context: dict[str, Any]
    ) -> None:
        handler = make(path, format="raw", **context)
        assert (handler.wants, handler.wants_raw) == ("events", True)
        done(handler.handle([make_event(raw="the raw frame")]))
        [file] = tmp_path.iterdir()
        assert file.read_bytes() == b"the raw frame\n"

    def test_a_torn_line_is_ended_before_the_next(self, make: Make, tmp_path: Path) -> None:
        """A crash leaves half a line; the line that comes next must not be part of it."""
        (tmp_path / "all.log").write_bytes(b"whole\nhal")
        done(make("all.log", format="raw").handle([make_batch(b"next")]))
        assert (tmp_path / "all.log").read_bytes() == b"whole\nhal\nnext\n"

    def test_files_and_folders_have_their_modes(self, make: Make, tmp_path: Path) -> None:
        done(make("new/{hostname}/all.log", mode="0604").handle(make_events(1)))
        file = tmp_path / "new/h1/all.log"
        assert stat.S_IMODE(file.stat().st_mode) == 0o604
        assert stat.S_IMODE(file.parent.stat().st_mode) & 0o027 == 0
        assert stat.S_IMODE(file.parent.parent.stat().st_mode) & 0o027 == 0


class TestPaths:
    """Which file, and never one elsewhere."""

    def test_events_are_grouped_by_their_file(self, make: Make, tmp_path: Path) -> None:
        later = NOON + dt.timedelta(days=1)
        done(
            make("{listener}-{time:%Y-%m-%d}.jsonl").handle(
                [make_event(0), make_event(1, time=later), make_event(2), make_event(3, listener="other")]
            )
        )
        assert {file.name: lines(file) for file in tmp_path.iterdir()} == {
            "tests-2025-03-01.jsonl": ["m0", "m2"],
            "tests-2025-03-02.jsonl": ["m1"],
            "other-2025-03-01.jsonl": ["m3"],
        }

    @pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y/%m/%d/%H", "%H%M", "%j"])
    def test_the_short_cut_for_times_agrees_with_looking_at_each(self, form: str) -> None:
        """Piles within one hour, over its edge, over midnight, and at the same hour of two days."""
        template = PathTemplate(f"/base/{{listener}}/{{time:{form}}}")
        for step in (dt.timedelta(seconds=1), dt.timedelta(minutes=7), dt.timedelta(hours=5), dt.timedelta(days=1)):
            events = [make_event(n, time=NOON + step * n) for n in range(10)]
            grouped = {event.id: path for path, group in template.group(events).items() for event in group}
            assert grouped == {event.id: template.path_of(event) for event in events}

    @given(first=st.text(max_size=300), second=st.text(max_size=300))
    def test_no_value_leaves_the_folder(self, first: str, second: str) -> None:
        template = PathTemplate("/base/{hostname}/.{app_name}{hostname}/{fields[app_name]}.log")
        path = template.path_of(make_event(fields={"hostname": first, "app_name": second}))
        parts = path.split("/")
        assert len(parts) == 3
        assert not {"", ".", ".."} & set(parts)
        assert all(len(part.encode()) <= 255 for part in parts)
        assert "\0" not in path

    def test_odd_components_are_replaced(self) -> None:
        template = PathTemplate("/base/{listener}//x/./{{y}}/{hostname}")
        event = make_event(fields={"hostname": "é" * 10})
        assert template.path_of(event) == "tests/_/x/_/{y}/" + "%C3%A9" * 10
        assert len(PathTemplate("/" + "é" * 200 + "{listener}").path_of(event).encode()) == 254

    @pytest.mark.parametrize("text", ["", "/", "/logs/", "/logs/{x}/../y", "/logs/..", "a\0b", "/logs/{x", "/l/{a.b}"])
    def test_paths_that_cannot_be_are_refused(self, text: str) -> None:
        parsed, problems = options.parse(FileHandler.Options, {"path": text})
        assert parsed is None
        assert problems[0][0] == "path"

    @pytest.mark.parametrize(
        ("text", "base", "literal"),
        [
            ("/var/log/x.log", "/var/log", "x.log"),
            ("/x.log", "/", "x.log"),
            ("x.log", ".", "x.log"),
            ("../x.log", "..", "x.log"),
            ("/var/{{a}}/b{{c}}", "/var/{a}", "b{c}"),
            ("/var/a-{listener}/b", "/var", None),
            ("{listener}", ".", None),
        ],
    )
    def test_the_folder_is_what_comes_before_the_first_place(self, text: str, base: str, literal: str | None) -> None:
        template = PathTemplate(text)
        assert (template.base, template.literal) == (base, literal)

    def test_symbolic_links_are_not_followed(self, make: Make, tmp_path: Path) -> None:
        """Neither as the file nor as a folder on the way: the events go to `overflow`."""
        outside = tmp_path / "outside"
        outside.mkdir()
        base = tmp_path / "base"
        (base / "real").mkdir(parents=True)
        (base / "linked").symlink_to(outside)
        (base / "real" / "x.log").symlink_to(outside / "stolen")
        log = Log()
        handler = make("base/{hostname}/x.log", log=log)
        done(handler.handle([make_event(0, fields={"hostname": "linked"}), make_event(1, fields={"hostname": "real"})]))
        assert list(outside.iterdir()) == []
        assert lines(base / "overflow") == ["m0", "m1"]
        assert handler.counts["overflow"] == 2
        assert "overflow" in log.lines[0]

    def test_what_is_no_regular_file_is_not_written(self, make: Make, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "h1.log")
        done(make("{hostname}.log").handle(make_events(1)))
        assert lines(tmp_path / "overflow") == ["m0"]

    def test_nobody_can_put_a_folder_in_the_place_of_overflow(self, make: Make, tmp_path: Path) -> None:
        done(make("{hostname}/x.log").handle([make_event(fields={"hostname": "overflow"})]))
        assert lines(tmp_path / "overflow") == ["m0"]


class TestLimits:
    """Files that peers can make us create and keep open."""

    def test_new_files_are_limited_by_the_minute(self, make: Make, tmp_path: Path) -> None:
        reactor = FakeReactor()
        handler = make("{hostname}.log", reactor, max_new_files_per_minute=2)
        events = [make_event(n, fields={"hostname": f"h{n}"}) for n in range(4)]
        done(handler.handle(events))
        assert sorted(os.listdir(tmp_path)) == ["h0.log", "h1.log", "overflow"]
        assert lines(tmp_path / "overflow") == ["m2", "m3"]
        done(handler.handle(events[:2]))
        assert handler.counts["overflow"] == 2
        reactor.advance(60)
        done(handler.handle(events[2:]))
        assert lines(tmp_path / "h3.log") == ["m3"]
        assert handler.counts["created"] == 5

    def test_open_files_are_limited_and_closed_files_are_appended_to(self, make: Make, tmp_path: Path) -> None:
        handler = make("{hostname}.log", max_open_files=3)
        events = [make_event(n, fields={"hostname": f"h{n % 10}"}) for n in range(20)]
        before = len(os.listdir("/proc/self/fd"))
        done(handler.handle(events))
        done(handler.handle(events))
        assert len(os.listdir("/proc/self/fd")) - before == 3
        assert lines(tmp_path / "h7.log") == ["m7", "m17"] * 2

    def test_a_literal_path_has_no_overflow(self, make: Make, tmp_path: Path) -> None:
        (tmp_path / "x.log").mkdir()
        with pytest.raises(ValueError, match=r"x.log cannot be written"):
            make("x.log")
        assert os.listdir(tmp_path) == ["x.log"]


class TestFailures:
    """A disk that is full or broken."""

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
    @pytest.mark.parametrize("context", [{}, {"durable": True}])
    def test_a_pile_is_written_wholly_or_not_at_all(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, context: dict[str, Any]
    ) -> None:
        """A short write in the second file takes back both, so the next attempt leaves no half line and no copy."""
        handler = make("{hostname}.log", **context)
        events = [make_event(n, fields={"hostname": f"h{n}"}) for n in range(2)]
        done(handler.handle(events))
        write, calls = os.write, []

        def fails(fd: int, data: Any) -> int:
            calls.append(fd)
            if len(calls) == 2:
                return write(fd, bytes(data)[:7])
            if len(calls) > 2:
                raise OSError(number, os.strerror(number))
            return write(fd, data)

        own_os(monkeypatch, _files, write=fails)
        with pytest.raises(TemporaryFailure, match=os.strerror(number)):
            done(handler.handle(events))
        monkeypatch.undo()
        assert handler.counts["undone"] == 1
        assert [lines(tmp_path / f"h{n}.log") for n in range(2)] == [["m0"], ["m1"]]
        done(handler.handle(events))
        assert [lines(tmp_path / f"h{n}.log") for n in range(2)] == [["m0"] * 2, ["m1"] * 2]

    def test_what_someone_else_wrote_behind_it_is_not_cut(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handler = make("all.log", format="raw")
        done(handler.handle([make_batch(b"a")]))

        write, calls = os.write, []

        def fails(fd: int, data: Any) -> int:
            calls.append(fd)
            if len(calls) == 1:
                return write(fd, bytes(data)[:1])
            with open(tmp_path / "all.log", "ab") as other:
                other.write(b" other\n")
            raise OSError(errno.EIO, "broken")

        own_os(monkeypatch, _files, write=fails)
        with pytest.raises(TemporaryFailure):
            done(handler.handle([make_batch(b"b")]))
        assert (tmp_path / "all.log").read_bytes() == b"a\nb other\n"

    def test_a_failed_sync_is_a_temporary_failure(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handler = make("all.jsonl", durable=True)

        def fails(fd: int) -> None:
            raise OSError(errno.EIO, "broken")

        own_os(monkeypatch, _files, fdatasync=fails)
        with pytest.raises(TemporaryFailure, match="broken"):
            done(handler.handle(make_events(1)))
        monkeypatch.undo()
        done(handler.handle(make_events(1)))
        assert lines(tmp_path / "all.jsonl") == ["m0"]

    def test_a_folder_that_cannot_be_made_is_a_wrong_setting(self, make: Make, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(ValueError, match="cannot be written"):
            make("file/{hostname}.log")

    def test_no_permission_is_a_temporary_failure(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handler = make("{hostname}.log")
        open_ = os.open

        def refuses(path: Any, *args: Any, **kwargs: Any) -> int:
            if path == "h1.log":
                raise PermissionError(errno.EACCES, "Permission denied")
            return open_(path, *args, **kwargs)

        own_os(monkeypatch, _files, open=refuses)
        with pytest.raises(TemporaryFailure, match=r"h1.log: Permission denied"):
            done(handler.handle(make_events(1)))

    def test_a_write_that_hangs_keeps_the_handler_busy(self, make: Make) -> None:
        reactor = FakeReactor()
        handler = make("all.log", reactor, sync=True)
        reactor.hold = True
        deferred = handler.handle(make_events(1))
        assert deferred is not None
        deferred.cancel()
        with pytest.raises(TemporaryFailure):
            done(deferred)
        assert handler.busy
        with pytest.raises(TemporaryFailure):
            done(handler.handle(make_events(1)))
        handler.reopen()
        reactor.run_thread()
        assert not handler.busy


class TestThreads:
    """What is written in the reactor's thread, and what is not."""

    def test_small_writes_to_open_files_are_direct(self, make: Make) -> None:
        reactor = FakeReactor()
        handler = make("all.log", reactor)
        assert handler.handle(make_events(1)) is None
        assert reactor.hops == 0

    @pytest.mark.parametrize("changes", [{"durable": True}, {"sync": True}])
    def test_syncing_is_for_threads_and_once_a_file(
        self, make: Make, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
    ) -> None:
        reactor, synced = FakeReactor(), []
        own_os(monkeypatch, _files, fdatasync=synced.append)
        handler = make("{hostname}.log", reactor, **changes)
        done(handler.handle([make_event(n, fields={"hostname": f"h{n % 2}"}) for n in range(10)]))
        assert reactor.hops == 1
        assert len(synced) == 2

    def test_sync_can_be_refused(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        synced: list[int] = []
        own_os(monkeypatch, _files, fdatasync=synced.append)
        assert make("all.log", durable=True, sync=False).handle(make_events(1)) is None
        assert synced == []

    @pytest.mark.parametrize("there", [False, True])
    def test_names_are_on_the_disk_before_a_pile_counts_as_done(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
    ) -> None:
        """Those of the file, its folder and the folders above; also where a killed process had made them."""
        if there:
            (tmp_path / "logs/h1").mkdir(parents=True)
            (tmp_path / "logs/h1/all.log").write_bytes(b"old\n")
        synced: list[str] = []
        fsync = os.fsync

        def note(fd: int) -> None:
            synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path))
            fsync(fd)

        own_os(monkeypatch, _files, fsync=note)
        handler = make("logs/{hostname}/all.log", durable=True)
        done(handler.handle([make_event(1, fields={"hostname": "h1"})]))
        assert synced == ([] if there else ["."]) + ["logs", "logs/h1"]

    def test_a_folder_that_cannot_be_synced_is_a_temporary_failure_and_leaves_nothing_open(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handler = make("{hostname}/all.log", durable=True)

        def fails(fd: int) -> None:
            raise OSError(errno.EIO, "broken")

        own_os(monkeypatch, _files, fsync=fails)
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(TemporaryFailure, match="broken"):
            done(handler.handle(make_events(1)))
        assert len(set(os.listdir("/proc/self/fd")) - before) == 0
        monkeypatch.undo()
        done(handler.handle(make_events(1)))

    def test_large_writes_and_opening_are_for_threads(self, make: Make) -> None:
        reactor = FakeReactor()
        handler = make("{hostname}.log", reactor)
        done(handler.handle(make_events(1)))
        assert reactor.hops == 1
        done(handler.handle(make_events(1)))
        assert reactor.hops == 1
        done(handler.handle([make_event(message="x" * file._SMALL)]))
        assert reactor.hops == 2

    def test_after_a_slow_write_the_next_goes_to_a_thread(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        reactor = FakeReactor()
        handler = make("all.log", reactor)
        write = os.write

        def slow(fd: int, data: Any) -> int:
            reactor.advance(0.02)
            return write(fd, data)

        own_os(monkeypatch, _files, write=slow)
        done(handler.handle(make_events(1)))
        assert reactor.hops == 0
        done(handler.handle(make_events(1)))
        assert reactor.hops == 1
        monkeypatch.undo()
        done(handler.handle(make_events(1)))
        done(handler.handle(make_events(1)))
        assert reactor.hops == 2

    def test_lanes_wait_for_each_other(self, make: Make, tmp_path: Path) -> None:
        reactor = FakeReactor(hold=True)
        handler = make("all.log", reactor, format="raw", sync=True)
        first, second = handler.handle([make_batch(b"a")]), handler.handle([make_batch(b"b")])
        assert len(reactor.held) == 1
        reactor.run_thread()
        reactor.run_thread()
        done(first)
        done(second)
        assert (tmp_path / "all.log").read_bytes() == b"a\nb\n"

    @pytest_twisted.ensureDeferred
    async def test_with_the_real_reactor(self, make: Make, tmp_path: Path) -> None:
        from twisted.internet import reactor

        handler = make("{listener}/all.jsonl", reactor, durable=True)
        for _ in range(3):
            deferred = handler.handle(make_events(2))
            assert deferred is not None
            await deferred
        assert lines(tmp_path / "tests/all.jsonl") == ["m0", "m1"] * 3
        stopped = handler.stop()
        assert stopped is not None
        await stopped


class TestReopen:
    """SIGHUP, after logrotate has moved the files."""

    def test_a_moved_file_is_let_go(self, make: Make, tmp_path: Path) -> None:
        handler = make("all.log", format="raw")
        done(handler.handle([make_batch(b"old")]))
        (tmp_path / "all.log").rename(tmp_path / "all.log.1")
        done(handler.handle([make_batch(b"still old")]))
        handler.reopen()
        done(handler.handle([make_batch(b"new")]))
        assert (tmp_path / "all.log.1").read_bytes() == b"old\nstill old\n"
        assert (tmp_path / "all.log").read_bytes() == b"new\n"

    def test_it_leaves_the_descriptors_of_a_running_write_alone(self, make: Make, tmp_path: Path) -> None:
        """The files are closed by the next one who writes."""
        reactor = FakeReactor()
        handler = make("all.log", reactor, format="raw", sync=True)
        reactor.hold = True
        first = handler.handle([make_batch(b"first")])
        before = len(os.listdir("/proc/self/fd"))
        (tmp_path / "all.log").rename(tmp_path / "all.log.1")
        handler.reopen()
        assert len(os.listdir("/proc/self/fd")) == before
        reactor.run_thread()
        done(first)
        assert (tmp_path / "all.log").read_bytes() == b"first\n"
        assert (tmp_path / "all.log.1").read_bytes() == b""
        reactor.hold = False

    @pytest.mark.parametrize("path", ["out.jsonl", "{listener}.jsonl"])
    def test_a_deleted_file_is_made_anew_where_done_means_on_the_disk(
        self, make: Make, tmp_path: Path, path: str
    ) -> None:
        handler = make(path, sync=True, format="raw", max_new_files_per_minute=2)
        batch = make_batch(b"one")
        done(handler.handle([batch]))
        (found,) = tmp_path.iterdir()
        found.unlink()
        done(handler.handle([batch]))
        done(handler.handle([batch]))
        assert found.read_bytes() == b"one\none\n"

    def test_a_deleted_file_is_made_anew_within_a_second(self, make: Make, tmp_path: Path) -> None:
        """Where nobody was promised more: what is written until it is noticed is gone with the file."""
        reactor = FakeReactor()
        handler = make("out.log", reactor, format="raw")
        handler.handle([make_batch(b"one")])
        (tmp_path / "out.log").unlink()
        handler.handle([make_batch(b"gone")])
        reactor.advance(1.0)
        assert handler.handle([make_batch(b"two")]) is None
        assert handler.handle([make_batch(b"three")]) is None
        assert (tmp_path / "out.log").read_bytes() == b"two\nthree\n"

    def test_a_deleted_overflow_is_made_anew(self, make: Make, tmp_path: Path) -> None:
        handler = make("{listener}.jsonl", sync=True, format="raw", max_new_files_per_minute=1)
        done(handler.handle([make_batch(b"one")]))
        other = msgspec.structs.replace(make_batch(b"two"), listener="other")
        done(handler.handle([other]))
        (tmp_path / "overflow").unlink()
        done(handler.handle([other]))
        done(handler.handle([other]))
        assert (tmp_path / "overflow").read_bytes() == b"two\ntwo\n"

    def test_a_moved_folder_is_let_go_too(self, make: Make, tmp_path: Path) -> None:
        handler = make("base/{hostname}.log")
        done(handler.handle(make_events(1)))
        (tmp_path / "base").rename(tmp_path / "old")
        handler.reopen()
        done(handler.handle(make_events(1)))
        assert lines(tmp_path / "base/h1.log") == ["m0"]


def test_a_cancelled_lane_that_waits_is_not_written(make: Make, tmp_path: Path) -> None:
    reactor = FakeReactor(hold=True)
    handler = make("all.log", reactor, format="raw", sync=True)
    first, second = handler.handle([make_batch(b"a")]), handler.handle([make_batch(b"b")])
    assert second is not None
    second.cancel()
    with pytest.raises((TemporaryFailure, CancelledError)):
        done(second)
    reactor.run_thread()
    done(first)
    assert (tmp_path / "all.log").read_bytes() == b"a\n"
    assert not reactor.held
