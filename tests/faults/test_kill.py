"""kill -9 under acknowledged load: what was acknowledged is delivered after the next start.

R1: at random moments. R2: at system calls, by strace. R3: at the journal's named points.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventserver.journal._executor import InlineExecutor
from tests.faults.clients import Client, HttpClient, RelpClient
from tests.faults.figures import Figures, scaled
from tests.faults.oracle import Oracle
from tests.faults.servers import Crashing
from tests.faults.simulation import FakeTime, open_journal
from tests.realprograms import DEADLINE, ROOT, TERMINATED

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: Small segments that are freed at once: every kind of system call and every point comes often.
SMALL = {"segment_bytes": 256 << 10}
FREED = 'retention = "0 s"\nmax_bytes = "64 MiB"'
#: The points at which a journal can be stopped, and how often each is passed in half a second or so. The list does
#: not shrink.
POINTS = {
    "batch-framed": 40,
    "before-commit": 40,
    "after-commit-before-ack": 40,
    "segment-create": 2,
    "seal": 1,
    "cursor-commit": 3,
    "unlink": 1,
}
#: Events that a handler may get again after one kill (R1).
AGAIN = 2000
#: And where it takes events as fast as they can be had: what it does while the cursors are written. No line of the
#: programme, whose load is 5,000 events/s; to have each pile wait for its cursor cost a sixth of the events a second.
AGAIN_AT_FULL_SPEED = 20_000
#: System calls that change the disk, and which of a kind may be the last. `rename` comes when `meta.db` is written
#: anew: it is damaged for that.
CALLS = {"pwrite64": 300, "fdatasync": 60, "unlink": 12, "ftruncate": 12, "fsync": 12, "rename": 2}


class Load:
    """Clients for a server that is killed; `finish` is the end of the test."""

    def __init__(self, crashing: Crashing, stack: contextlib.ExitStack, relp: float, http: float) -> None:
        self.oracle = Oracle()
        self.crashing = crashing
        #: By kill, events that were delivered again after it; known in the end.
        self.again: list[int] = []
        numbers = itertools.count(1)
        self.clients: list[Client] = [
            stack.enter_context(RelpClient(self.oracle, numbers, crashing.relp, rate=relp)),
            stack.enter_context(HttpClient(self.oracle, numbers, crashing.http, rate=http)),
        ]

    def wait_acked(self, more: int) -> None:
        """Until each client has got so many acknowledgements more."""
        for client in self.clients:
            assert client.wait_acked(client.acked + more), client.said[-5:]

    def finish(self, kills: int) -> str:
        """Everything sent gets acknowledged and delivered; fails the test otherwise. What to say of it."""
        crashing = self.crashing
        for client in self.clients:
            assert client.finish(), (client.said[-5:], crashing.server and crashing.server.output()[-3000:])
        crashing.drained()
        recorded = crashing.recorded()
        assert self.oracle.problems(recorded) == []
        assert crashing.troubles() == []
        self.again = recorded.again[1:] or [0]
        return (
            f"{kills} kills, {len(self.oracle.acked)} acknowledged, 0 lost;"
            f" delivered again after a kill: at most {max(self.again)} ({AGAIN}), {sum(self.again)} in all"
        )


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., Load]]:
    """`load(relp=3000, http=2000, handler="", journal="")`: a folder for a server, and clients that begin at once."""
    with contextlib.ExitStack() as stack:

        def begin(relp: float = 3000, http: float = 2000, **options: str) -> Load:
            crashing = stack.enter_context(Crashing(tmp_path / "server", **options))
            return Load(crashing, stack, relp, http)

        yield begin


def test_r1_kill_at_random_moments(load: Callable[..., Load], figures: Figures) -> None:
    """R1: RELP and HTTP, 5,000 events/s together. Some kills come before the server has started."""
    loaded = load()
    chance = random.Random(1)
    kills = scaled(20, 200)
    never = threading.Event()
    for _ in range(kills):
        early = chance.random() < 0.2
        server = loaded.crashing.start(wait=not early)
        if not early:
            loaded.wait_acked(1)
        never.wait(chance.uniform(0, 0.4))
        server.kill()
    loaded.crashing.start()
    said = loaded.finish(kills)
    starts = loaded.crashing.starts
    figures(f"R1 kill -9 at random moments: {said}; start at most {max(starts):.1f} s")
    assert max(loaded.again) <= AGAIN


@pytest.mark.parametrize(("call", "again"), [("record_evenly", AGAIN), ("record", AGAIN_AT_FULL_SPEED)])
def test_r1_kill_while_a_backlog_drains(load: Callable[..., Load], call: str, again: int, figures: Figures) -> None:
    """R1: a handler gets what waited for it, at 20,000 events/s or as fast as it can, and the server is killed."""
    loaded = load(relp=20_000, http=2000, call=call)
    crashing = loaded.crashing
    down, recorded = crashing.folder / "down", crashing.folder / "recorded.txt"
    down.touch()
    server = crashing.start()
    loaded.wait_acked(scaled(15_000, 100_000))
    chance = random.Random(3)
    kills = scaled(5, 30)
    for number in range(kills):
        server.kill()
        if number == 0:
            down.unlink()
        server = crashing.start(wait=False)
        size = recorded.stat().st_size
        # Lines are about 50 bytes long.
        wanted = size + 50 * chance.randint(500, 4000)
        while recorded.stat().st_size < wanted and not server.ended():
            pass
    figures(f"R1 kill -9 while a backlog drains ({call}): {loaded.finish(kills)}")
    assert max(loaded.again) <= again


def test_r2_kill_at_system_calls(
    load: Callable[..., Load], real_program: Callable[[str], str], figures: Figures
) -> None:
    """R2: SIGKILL comes with the Nth call of a kind; no process ends in another way, so each start is well."""
    strace = real_program("strace")
    loaded = load(relp=1000, http=500, journal=FREED)
    chance = random.Random(2)
    kills = scaled(12, 300)
    reached = 0
    records = loaded.crashing.folder / "journal" / "0" / "meta.db"
    for call in itertools.islice(itertools.cycle(CALLS), kills):
        when = chance.randint(1, CALLS[call])
        if call == "rename":
            # With its log it would still be whole.
            records.with_name("meta.db-wal").unlink(missing_ok=True)
            records.write_bytes(b"no database" * 100)
        inject = f"inject={call}:signal=SIGKILL:when={when}"
        under = [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
        server = loaded.crashing.start(before=under, wait=False, **SMALL)
        if server.ends(within=20):
            reached += 1
            assert server.killed, server.output()[-3000:]
        server.kill()
    loaded.crashing.start(**SMALL)
    figures(f"R2 kill at system calls: {loaded.finish(kills)}; {reached} ended by the call")
    assert reached >= kills * 0.7


def test_events_that_fail_are_not_lost_by_kills(load: Callable[..., Load], figures: Figures) -> None:
    """What a handler refuses is tried again and then a dead letter, across kills: each event is one or the other."""
    retry = 'retry = {max_attempts = 2, initial_interval = "100 ms"}'
    loaded = load(relp=1000, http=500, handler=retry, call="record_some")
    chance = random.Random(4)
    kills = scaled(4, 50)
    never = threading.Event()
    for _ in range(kills):
        server = loaded.crashing.start()
        loaded.wait_acked(1)
        never.wait(chance.uniform(0.1, 0.8))
        server.kill()
    server = loaded.crashing.start()
    for client in loaded.clients:
        assert client.finish(), client.said[-5:]
    loaded.crashing.drained()
    assert server.stop() == TERMINATED
    recorded = loaded.crashing.recorded()
    dead = dead_letters(loaded.crashing.folder / "journal")
    delivered = set(recorded.numbers.values())
    oracle = loaded.oracle
    assert sorted(oracle.acked - delivered - dead)[:5] == []
    assert sorted(delivered & dead)[:5] == []
    assert all(number % 97 == 0 for number in dead)
    assert recorded.corrupted == []
    figures(
        f"events that fail, {kills} kills: {len(oracle.acked)} acknowledged = {len(oracle.acked & delivered)} delivered"
        f" + {len(oracle.acked & dead)} dead letters, 0 lost"
    )


def dead_letters(folder: Path) -> set[int]:
    """The numbers of the messages among the dead letters; no server may run."""
    journal = open_journal(folder, FakeTime(), InlineExecutor(), retention=3600.0)
    numbers = {int(parked.event.message[:10]) for _, parked in journal.dead(limit=100_000)}
    assert journal.close().called
    return numbers


def test_every_point_of_the_journal_is_tested() -> None:
    """The list of points is that of the code."""
    sources = (ROOT / "eventserver" / "journal").glob("*.py")
    found = {name for source in sources for name in re.findall(r'point\("([\w-]+)"\)', source.read_text())}
    assert found == POINTS.keys()


@pytest.mark.parametrize("point", POINTS)
def test_r3_kill_at_named_points(load: Callable[..., Load], point: str, figures: Figures) -> None:
    """R3: the process ends at the point itself, early and late."""
    loaded = load(relp=1500, http=500, journal=FREED)
    kills = scaled(2, 12)
    for number in range(kills):
        server = loaded.crashing.start(crash_at=f"{point}:{1 + number * POINTS[point]}", wait=False, **SMALL)
        assert server.ends(within=DEADLINE), f"{point} was not passed"
        assert server.killed, server.output()[-3000:]
    loaded.crashing.start(**SMALL)
    figures(f"R3 kill at {point}: {loaded.finish(kills)}")
