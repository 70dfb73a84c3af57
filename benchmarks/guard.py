"""Notices a slow commit: each stage of the hot path against a reference loop that runs beside it.

    .venv/bin/python -m benchmarks.guard                        # checks, as `make check` does, and prints a table
    .venv/bin/python -m benchmarks.guard --record               # writes guard.json anew
    .venv/bin/python -m benchmarks.guard --record "decode text" # one stage of it

What is compared is a ratio: the CPU time of a stage for one event, over that of the reference for one line. Both run
in turns, a millisecond each, in one process, and the fastest turn of each counts: whatever slows the machine (load,
another frequency, a slower core) slows both, and between two interruptions there is always a millisecond. On a quiet
machine ratios stay within 5 % of what is recorded. In 40 runs beside several processes that had both cores busy and
their caches full, the worst that any stage was measured at was 1.28 times its record, and no run failed.

The measuring process is started with a fixed hash seed: with another seed dictionaries lie otherwise in memory, which
alone makes some stages differ by 15 %. A stage over its bound is measured twice again, in processes of their own, and
only fails if it never was within it.

Why not count instructions, which do not vary at all? The counters of the processor are not there in most virtual
machines and containers, and valgrind takes half a minute for the imports alone and would have to be installed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.stages import Stage, stages

ROOT = Path(__file__).resolve().parent.parent
RECORD = Path(__file__).with_name("guard.json")
#: How many times its recorded ratio a stage may take. Where the record is from another kind of machine, the mixture of
#: the reference is not quite that of every stage: so much more is allowed there.
BOUND = 1.3
BOUND_ELSEWHERE = 2.0
#: A ratio that has fallen this far should be recorded, for the bound to follow.
FASTER = 0.75
#: Seconds of one turn, and how many turns each stage has.
TURN = 0.001
TURNS = 60
ATTEMPTS = 3
#: A record is the median of so many processes.
PROCESSES = 5

Ratios = Mapping[str, float]
#: Measures the stages of these names (none: all), in a process of their own.
Measure = Callable[[Collection[str]], Ratios]


class Line(msgspec.Struct, gc=False):
    """What the reference makes of a line."""

    name: str
    number: int
    text: str
    fields: dict[str, Any]


class Reference:
    """Work of the kinds that the stages are made of, and none of their code: cutting bytes, text, looking up what is
    known, a dictionary and an object for each line, JSON, and a selection.

    To change it is to record every stage anew.
    """

    LINES = 200

    def __init__(self) -> None:
        self.stage = Stage("reference", self.LINES, self.run)
        self._data = b"\n".join(
            b'<%d>1 2026-11-22T10:00:00.%06dZ web%d app %d ID%d an event of some length \xc3\xa9 and a "word" in it'
            % (number % 191, number * 37, number % 20, number % 50, number % 9)
            for number in range(self.LINES)
        )
        self._encode = msgspec.json.Encoder().encode_lines

    def run(self) -> object:
        """The work, for so many lines."""
        max(map(len, self._data.split(b"\n")))
        known: dict[str, dict[str, Any]] = {}
        made = []
        for number, text in enumerate(self._data.decode().split("\n")):
            head, _, rest = text.partition(" ")
            found = known.get(head)
            if found is None:
                found = known[head] = {"head": head, "code": len(known) & 7}
            fields = {**found, "host": rest[28:33], "number": number}
            if "nowhere" in rest:
                continue
            made.append(Line("line-" + str(number), number, rest, fields))
        self._encode(made)
        return [line for line in made if line.fields["code"] >= 4]


def measure(
    chosen: Sequence[Stage],
    turns: int = TURNS,
    clock: Callable[[], float] = time.process_time,
    reference: Stage | None = None,
) -> Ratios:
    """The ratio of each stage. In every round each has a turn, so that all of them meet the quiet moments."""
    reference = reference or Reference().stage

    def timed(run: Callable[[], object], times: int) -> float:
        start = clock()
        for _ in range(times):
            run()
        return (clock() - start) / times

    def times(run: Callable[[], object]) -> int:
        return max(1, round(TURN / min(timed(run, 1) for _ in range(8))))

    reference_times = times(reference.run)
    stage_times = []
    for stage in chosen:
        stage_times.append(times(stage.run))
        stage.tidy()
    best = dict.fromkeys((stage.name for stage in chosen), (float("inf"), float("inf")))
    for _ in range(turns):
        for stage, count in zip(chosen, stage_times, strict=True):
            base, own = best[stage.name]
            base = min(base, timed(reference.run, reference_times))
            best[stage.name] = base, min(own, timed(stage.run, count))
            stage.tidy()
    events = {stage.name: stage.events for stage in chosen}
    return {name: own / events[name] / (base / reference.events) for name, (base, own) in best.items()}


def measure_apart(names: Collection[str]) -> Ratios:
    """As `measure`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.guard", "--measure", *names]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "0"}, stdout=subprocess.PIPE, check=True
    )
    found: Ratios = json.loads(done.stdout)
    return found


def python() -> str:
    """Which Python this is: each has ratios of its own."""
    return f"{platform.python_implementation()} {'.'.join(platform.python_version_tuple()[:2])}{sys.abiflags}"


def machine() -> str:
    """What kind of machine this is, and what Python was compiled with."""
    model = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = f"{models[0]} ({model})" if models else model
    return f"{model}, {platform.python_compiler()}"


def check(recorded: Ratios, bound: float, measured: Measure, say: Callable[[str], object] = print) -> list[str]:
    """What is wrong, in sentences for people; `say` gets the lines of a table."""
    found = dict(measured(()))
    problems = [f"{name}: there is no such stage any more" for name in recorded.keys() - found.keys()]
    problems += [f"{name}: its ratio is not recorded yet" for name in found.keys() - recorded.keys()]
    for _ in range(ATTEMPTS - 1):
        if again := [name for name in recorded.keys() & found.keys() if found[name] > bound * recorded[name]]:
            found |= {name: min(ratio, found[name]) for name, ratio in measured(again).items()}
    say(f"{'stage':24} {'ratio':>9} {'recorded':>9} {'times':>6}")
    for name, ratio in found.items():
        if name not in recorded:
            continue
        times = ratio / recorded[name]
        note = ""
        if times > bound:
            note = f"  over {bound:g}"
            problems.append(
                f"{name}: takes {ratio:.4g} times as long as the reference; recorded are {recorded[name]:.4g}, so the"
                f" bound is {bound * recorded[name]:.4g}; measured {ATTEMPTS} times"
            )
        elif times < FASTER:
            note = "  faster: record it"
        say(f"{name:24} {ratio:9.4g} {recorded[name]:9.4g} {times:6.2f}{note}")
    return problems


def record(names: Collection[str], before: Ratios, measured: Measure) -> dict[str, float]:
    """The ratios to write: of all stages, or those from before with these measured anew."""
    runs = [measured(names) for _ in range(PROCESSES)]
    new = {name: float(f"{statistics.median(run[name] for run in runs):.4g}") for name in runs[0]}
    return {**before, **new} if names else new


def _check_recorded(records: Mapping[str, Any]) -> int:
    if python() not in records:
        print(f"The speed of the stages is not checked: nothing is recorded for {python()}. To have it recorded:")
        print(f"    {sys.executable} -m benchmarks.guard --record")
        return 0
    mine = records[python()]
    bound = BOUND
    if mine["machine"] != machine():
        bound = BOUND_ELSEWHERE
        print(f"Recorded on {mine['machine']}; this is {machine()}: the bound is {bound:g} times what is recorded.")
    problems = check(mine["ratios"], bound, measure_apart)
    if not problems:
        return 0
    print("\nThe hot path has changed its speed:", *(f"- {problem}" for problem in problems), sep="\n")
    print("\nWhere that is meant, or a new version of msgspec, Twisted or Python explains it, record the stage anew:")
    print(f'    {sys.executable} -m benchmarks.guard --record "NAME"')
    return 1


def _record(names: Collection[str], records: Mapping[str, Any]) -> int:
    before = records.get(python(), {"machine": "", "ratios": {}})
    if names and before["machine"] != machine():
        print(f"The other stages were recorded on another machine ({before['machine']}): record all.", file=sys.stderr)
        return 1
    new = {"machine": machine(), "ratios": record(names, before["ratios"], measure_apart)}
    RECORD.write_text(json.dumps(dict(sorted({**records, python(): new}.items())), indent=2) + "\n")
    print(f"written: {RECORD}")
    return 0


def _measure_here(names: Iterable[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="guard") as folder:
        every = stages(Path(folder))
        unknown = set(names) - {stage.name for stage in every}
        if unknown:
            print(f"no such stage: {', '.join(unknown)}", file=sys.stderr)
            return 1
        # What is there already (Twisted, mostly) is not to be looked through by each collection.
        gc.collect()
        gc.freeze()
        print(json.dumps(measure([stage for stage in every if not names or stage.name in names])))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, or record; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=(__doc__ or "").splitlines()[0])
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--record", nargs="*", metavar="STAGE", help="write the ratios of these stages (none: all) anew")
    doing.add_argument("--measure", nargs="*", metavar="STAGE", help="print the ratios, measured once, as JSON")
    chosen = parser.parse_args(arguments)
    if chosen.measure is not None:
        return _measure_here(chosen.measure)
    records = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    try:
        return _check_recorded(records) if chosen.record is None else _record(chosen.record, records)
    except subprocess.CalledProcessError as error:
        # It has said why.
        return error.returncode


if __name__ == "__main__":
    sys.exit(main())
