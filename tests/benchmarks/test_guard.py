"""The guard against slow commits finds one, and nothing on the hot path keeps memory."""

from __future__ import annotations

import gc
import itertools
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from benchmarks import guard, payloads
from benchmarks.guard import Ratios
from benchmarks.stages import MATCH, STEPS, Rig, Stage, decoding, reads_of, stages
from eventserver.decoders.text import TextDecoder

GONE = Failure(ConnectionDone())


class Measured:
    """Measures what it is told to, and notes what was asked for."""

    def __init__(self, *runs: Ratios) -> None:
        self._runs = iter(runs)
        self.asked: list[list[str]] = []

    def __call__(self, names: Collection[str]) -> Ratios:
        self.asked.append(sorted(names))
        return next(self._runs)


# What is said about ratios


def test_stages_within_the_bound_are_measured_once(capsys: pytest.CaptureFixture[str]) -> None:
    measured = Measured({"a": 1.2, "b": 0.5})
    assert guard.check({"a": 1.0, "b": 1.0}, 1.3, measured) == []
    assert measured.asked == [[]]
    assert "faster: record it" in capsys.readouterr().out


def test_a_stage_over_the_bound_has_two_more_chances() -> None:
    measured = Measured({"a": 1.4, "b": 1.4, "c": 1.0}, {"a": 1.5, "b": 1.2}, {"a": 1.25})
    assert guard.check({"a": 1.0, "b": 1.0, "c": 1.0}, 1.3, measured) == []
    assert measured.asked == [[], ["a", "b"], ["a"]]


def test_a_slow_stage_is_named_with_its_ratio_and_its_bound(capsys: pytest.CaptureFixture[str]) -> None:
    [problem] = guard.check({"a": 1.0, "b": 1.0}, 1.3, Measured({"a": 1.5, "b": 1.0}, {"a": 1.4}, {"a": 1.6}))
    assert problem.startswith("a: takes 1.4 times")
    assert "the bound is 1.3" in problem
    assert "over 1.3" in capsys.readouterr().out


def test_stages_and_records_have_to_agree() -> None:
    assert guard.check({"gone": 1.0}, 1.3, Measured({"new": 1.0})) == [
        "gone: there is no such stage any more",
        "new: its ratio is not recorded yet",
    ]


def test_a_record_is_the_median_of_several_processes() -> None:
    runs = [{"a": ratio} for ratio in (1.0, 9.0, 1.23456, 1.1, 2.0)]
    assert guard.record((), {"gone": 5.0}, Measured(*runs)) == {"a": 1.235}
    assert guard.record(("a",), {"b": 5.0}, Measured(*runs)) == {"a": 1.235, "b": 5.0}


# What the command does


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the record, instead of the real one."""
    found = tmp_path / "guard.json"
    monkeypatch.setattr(guard, "RECORD", found)
    return found


def write(file: Path, ratios: Ratios, python: str | None = None, machine: str | None = None) -> None:
    """A record."""
    where = {"machine": guard.machine() if machine is None else machine, "ratios": ratios}
    file.write_text(json.dumps({python or guard.python(): where}))


def test_exit_code_and_advice(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write(file, {"a": 1.0})
    monkeypatch.setattr(guard, "measure_apart", lambda names: {"a": 1.1})
    assert guard.main([]) == 0
    assert "--record" not in capsys.readouterr().out
    monkeypatch.setattr(guard, "measure_apart", lambda names: {"a": 1.5})
    assert guard.main([]) == 1
    assert "benchmarks.guard --record" in capsys.readouterr().out


def test_on_another_machine_more_is_allowed_and_said(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, {"a": 1.0}, machine="a slide rule")
    monkeypatch.setattr(guard, "measure_apart", lambda names: {"a": 1.9})
    assert guard.main([]) == 0
    assert "Recorded on a slide rule; this is" in capsys.readouterr().out
    monkeypatch.setattr(guard, "measure_apart", lambda names: {"a": 2.1})
    assert guard.main([]) == 1


def test_a_python_without_a_record_is_left_alone_and_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(file, {"a": 1.0}, python="CPython 2.7")
    assert guard.main([]) == 0
    assert f"nothing is recorded for {guard.python()}" in capsys.readouterr().out


def test_to_record_leaves_other_pythons_and_other_stages(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file, {"a": 1.0}, python="CPython 2.7")
    monkeypatch.setattr(guard, "measure_apart", lambda names: dict.fromkeys(names or ("a", "b"), 2.0))
    assert guard.main(["--record"]) == 0
    monkeypatch.setattr(guard, "measure_apart", lambda names: dict.fromkeys(names, 3.0))
    assert guard.main(["--record", "b"]) == 0
    records = json.loads(file.read_text())
    assert records["CPython 2.7"]["ratios"] == {"a": 1.0}
    assert records[guard.python()] == {"machine": guard.machine(), "ratios": {"a": 2.0, "b": 3.0}}


def test_ratios_of_two_machines_are_not_mixed(file: Path) -> None:
    write(file, {"a": 1.0}, machine="a slide rule")
    before = file.read_text()
    assert guard.main(["--record", "a"]) == 1
    assert file.read_text() == before


def test_a_process_of_its_own_measures_what_was_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    [(name, ratio)] = guard.measure_apart(["match"]).items()
    assert name == "match"
    assert ratio > 0
    with pytest.raises(subprocess.CalledProcessError):
        guard.measure_apart(["matsch"])
    assert "no such stage: matsch" in capfd.readouterr().err


# What is measured


class Time:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, *seconds: float) -> Callable[[], None]:
        """Work that takes so long, in turn."""
        turn = itertools.cycle(seconds)

        def run() -> None:
            self.now += next(turn)

        return run


def test_a_ratio_is_of_one_event_to_one_line_whatever_the_noise() -> None:
    """The fastest turns count, and what tidies up does not."""
    time = Time()
    reference = Stage("reference", 100, time.taking(*[0.002] * 3, 0.001, 0.005))
    stage = Stage("a", 10, time.taking(0.009, 0.002, *[0.004] * 3), time.taking(1.0))
    small = Stage("b", 1, time.taking(0.000_001))
    ratios = guard.measure([stage, small], turns=20, clock=time, reference=reference)
    assert ratios == {"a": pytest.approx(20), "b": pytest.approx(0.1)}


def test_a_decoder_that_does_its_work_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured for real; the record is of this very machine."""

    def measured(names: Collection[str] = ()) -> Ratios:
        every = decoding("text", TextDecoder(), payloads.lines())
        return guard.measure([stage for stage in every if not names or stage.name in names], turns=30)

    recorded = measured()
    assert guard.check(recorded, guard.BOUND, measured) == []
    decode = TextDecoder.decode

    def twice(decoder: TextDecoder, batch: Any) -> Any:
        decode(decoder, batch)
        return decode(decoder, batch)

    monkeypatch.setattr(TextDecoder, "decode", twice)
    [problem] = guard.check(recorded, guard.BOUND, measured)
    assert problem.startswith("decode text: takes")


def test_any_stage_that_does_its_work_twice_is_caught(tmp_path: Path) -> None:
    every = stages(tmp_path)
    recorded = guard.measure(every, turns=8)

    def doubled(names: Collection[str]) -> Ratios:
        slow = [replace(stage, run=twice(stage.run)) for stage in every if not names or stage.name in names]
        return guard.measure(slow, turns=8)

    assert len(guard.check(recorded, guard.BOUND, doubled)) == len(every)


def twice(run: Callable[[], object]) -> Callable[[], object]:
    """Work done twice."""
    return lambda: (run(), run())


# Memory


#: More than what the caches remember of peers (1,024), so that these are full after the first time.
BATCHES = 1100


def growth(work: Callable[[], object]) -> tuple[int, int]:
    """How many blocks, and bytes, more there are after the work is done for the second time than after the first."""
    tracemalloc.start()
    try:
        figures = []
        for _ in range(2):
            work()
            gc.collect()
            figures.append((sys.getallocatedblocks(), tracemalloc.get_traced_memory()[0]))
    finally:
        tracemalloc.stop()
    (blocks, size), (more_blocks, more_size) = figures
    return more_blocks - blocks, more_size - size


def leaks(blocks: int, size: int) -> bool:
    """Whether that is more than nothing. Bytes are for what is too large to be a block; dictionaries that are full
    of other things than before may have another size.
    """
    return blocks > BATCHES / 10 or size > 100 * BATCHES


PATHS: dict[str, tuple[dict[str, Any], str, payloads.Payload]] = {
    "text to json": ({"type": "file"}, "text", payloads.lines()),
    "text to raw": ({"type": "file", "format": "raw"}, "text", payloads.lines()),
    "syslog to json": ({"type": "file"}, "syslog", payloads.rfc5424()),
    "json to match to json": ({"type": "file", "match": MATCH, "steps": STEPS}, "json", payloads.json_lines()),
    "text to a function": ({"call": lambda event: None}, "text", payloads.lines()),
}


def rig_for(name: str, folder: Path) -> Rig:
    handler, decoder, _ = PATHS[name]
    where = {"path": str(folder / "out")} if "type" in handler else {}
    return Rig({**handler, **where}, decoder)


@pytest.mark.parametrize("name", PATHS)
def test_a_thousand_batches_leave_nothing_behind(tmp_path: Path, name: str) -> None:
    rig = rig_for(name, tmp_path)
    head, reads = reads_of(PATHS[name][2])
    # Parts of a read, to be done sooner.
    pieces = itertools.cycle(read[at : at + 2000] for read in reads for at in range(0, len(read), 2000))
    receive = rig.connect().dataReceived
    receive(head)

    def work() -> None:
        for _ in range(BATCHES):
            receive(next(pieces))

    blocks, size = growth(work)
    assert rig.delivered() > 2 * BATCHES
    assert not leaks(blocks, size)


@pytest.mark.parametrize("name", PATHS)
def test_a_thousand_connections_leave_nothing_behind(tmp_path: Path, name: str) -> None:
    rig = rig_for(name, tmp_path)
    line = PATHS[name][2].variant(1).line(1) + b"\n"

    def work() -> None:
        for _ in range(BATCHES):
            connection = rig.connect()
            connection.dataReceived(line)
            connection.connectionLost(GONE)

    blocks, size = growth(work)
    assert rig.delivered() == 2 * BATCHES
    assert not leaks(blocks, size)


@pytest.mark.parametrize("kept", [lambda event: [event.id], lambda event: event.message * 20])
def test_what_a_function_keeps_of_each_batch_is_found(kept: Callable[[Any], object]) -> None:
    """So the two tests before this one would find it."""
    leak: list[object] = []
    rig = Rig({"call": lambda event: leak.append(kept(event))})
    receive = rig.connect().dataReceived

    def work() -> None:
        for _ in range(BATCHES):
            receive(b"a line of a few words, such as there are\n")

    blocks, size = growth(work)
    assert leaks(blocks, size)


NEW: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "text": ("text", lambda n: b"line %d" % n),
    "json": ("json", lambda n: b'{"key%d": "value%d", "message": "m", "level": "l%d"}' % (n, n, n)),
    "rfc5424": (
        "syslog",
        lambda n: b'<%d>1 2026-01-01T00:00:00.%06dZ h%d a%d %d ID%d [x%d y="%d"] m' % (n % 191, n, n, n, n, n, n, n),
    ),
    "rfc3164": (
        "syslog",
        lambda n: b"<%d>Jan  1 00:%02d:%02d h%d a%d[%d]: m" % (n % 191, n // 60 % 60, n % 60, n, n, n),
    ),
}


@pytest.mark.parametrize("name", NEW)
def test_what_is_new_in_every_line_is_not_kept_for_ever(name: str) -> None:
    """What is remembered has a bound, so memory does not only rise: in the end it is, at some time, what it was."""
    decoder, line = NEW[name]
    rig = Rig({"call": lambda event: None}, decoder)
    numbers = itertools.count()

    def blocks() -> int:
        connection = rig.connect()
        for _ in range(20):
            connection.dataReceived(b"".join(line(next(numbers)) + b"\n" for _ in range(25)))
        connection.connectionLost(GONE)
        gc.collect()
        return sys.getallocatedblocks()

    found = [blocks() for _ in range(60)]
    assert rig.delivered() == 30_000
    assert min(found[40:]) < max(found[:20]) + 1000
