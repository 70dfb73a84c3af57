"""What is down, full or slow: nothing acknowledged is lost, and every discard is counted.

R7: the destination is down and comes back. R8: the journal is filled to its bound. R12: SIGTERM under load.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.faults.clients import RelpClient
from tests.faults.figures import LONG, Figures, scaled
from tests.faults.oracle import Oracle, message
from tests.faults.servers import SETTINGS, Crashing
from tests.realprograms import DEADLINE, TERMINATED

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: A second handler, which is never down.
OTHER = """
[handler.other]
call = "recorder:record_delays"
"""
#: Plain TCP in the place of RELP; nothing is acknowledged.
PLAIN = """
[listener.relp]
endpoints = ["tcp:{relp}:interface=127.0.0.1"]

[handler.recorder]
call = "recorder:{call}"
{handler}
[journal]
path = "journal"
{journal}
[admin]
endpoint = "tcp:0:interface=127.0.0.1"
"""


def test_r7_the_destination_is_down_and_comes_back(crashing: Callable[..., Crashing], figures: Figures) -> None:
    """R7: nothing is lost, what waited is delivered faster than it came, and the other handler notices nothing.

    `retry` is this test's own: with what is usual the next attempt, and so the end, may be minutes away.
    """
    rate = 5000
    # Room for the whole outage: what happens without is R8.
    handler = 'max_lag = "8 GiB"\nretry = {max_interval = "2 s"}'
    held = crashing(settings=SETTINGS + OTHER, journal='max_bytes = "16 GiB"', handler=handler)
    server = held.start()
    oracle = Oracle()
    delays = Delays(held.folder / "delays.txt")
    with RelpClient(oracle, itertools.count(1), held.relp, rate=rate, window=2000) as client:
        assert client.wait_acked(rate), client.said
        delays.p99()  # the start does not count
        assert client.wait_acked(rate * scaled(3, 60)), client.said
        (held.folder / "down").touch()
        usual = delays.p99()
        first = client.acked
        delayed = 0
        deadline = time.monotonic() + scaled(4, 600)
        while time.monotonic() < deadline:
            assert client.wait_acked(client.acked + rate // 4), client.said
            metrics = server.metrics()
            delayed = max(delayed, metrics.total("handler_lag_frames", handler="other"))
        waiting = metrics.total("handler_lag_frames", handler="recorder")
        assert waiting >= client.acked - first - 2 * rate, "the handler was not down"
        meanwhile = delays.p99()
        (held.folder / "down").unlink()
        began = time.monotonic()
        before = client.acked
        while server.metrics().total("handler_lag_frames", handler="recorder") > rate // 4:
            assert time.monotonic() < began + DEADLINE, server.output()[-3000:]
        seconds = time.monotonic() - began
        draining = delays.p99()
        arrived = client.acked - before
        drained = waiting + arrived
        assert client.finish(), client.said
    held.drained()
    assert oracle.problems(held.recorded()) == []
    assert delayed < 2 * rate, "the other handler was delayed"
    figures(
        f"R7 destination down: {waiting} events waited, 0 lost; delivered at {drained / seconds:,.0f}/s afterwards"
        f" ({drained / seconds / rate:.1f} times the rate of arrival); p99 of the acknowledgement"
        f" {client.percentile(0.99):.0f} ms throughout; p99 of the other handler's delay {1000 * usual:.1f} ms before,"
        f" {1000 * meanwhile:.1f} ms during and {1000 * draining:.1f} ms after it"
    )
    if seconds > 1:
        # On a machine that others use, fewer than `rate` may come as well.
        assert drained >= (3 * rate * seconds if LONG else 2 * arrived)
    if LONG:
        # A tenth more; where all is over in milliseconds, what other programs do on the machine is more than that.
        assert meanwhile <= max(1.1 * usual, usual + 0.005)


class Delays:
    """What `record_delays` wrote since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def p99(self) -> float:
        """Seconds that 99 of 100 events did not take longer to get to the handler."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            found = file.read()
        found = found[: found.rfind(b"\n") + 1]
        self._read += len(found)
        ordered = sorted(map(float, found.split()))
        return ordered[int(0.99 * (len(ordered) - 1))]


def test_r8_a_full_journal_makes_senders_wait(crashing: Callable[..., Crashing], figures: Figures) -> None:
    """R8, `block`: at the bound nothing more is acknowledged; with the destination back all of it is delivered."""
    held = crashing(journal='max_bytes = "4 MiB"', handler='max_lag = "4 MiB"')
    (held.folder / "down").touch()
    held.start()
    oracle = Oracle()
    with RelpClient(oracle, itertools.count(1), held.relp, limit=40_000) as client:
        assert not client.wait_acked(40_000, timeout=scaled(3, 20)), "nobody was made to wait"
        full = client.acked
        assert full > 1000
        (held.folder / "down").unlink()
        assert client.finish(), client.said
    held.drained()
    assert oracle.problems(held.recorded()) == []
    assert len(oracle.acked) == 40_000
    figures(f"R8 full, block: senders wait after {full} events; {len(oracle.acked)} acknowledged in the end, 0 lost")


def test_r8_a_full_journal_drops_the_oldest_and_counts(crashing: Callable[..., Crashing], figures: Figures) -> None:
    """R8, `drop_oldest`: senders go on, and exactly what is counted as expired is what was not delivered."""
    held = drop_oldest(crashing)
    oracle = fill_journal(held)
    expired = held.drained().total("frames_expired_total", handler="recorder")
    recorded = held.recorded()
    missing = oracle.undelivered(recorded)
    assert missing == expired > 0
    assert recorded.corrupted == []
    figures(f"R8 full, drop_oldest: {len(oracle.acked)} acknowledged, {missing} not delivered, {expired} counted")
    assert held.server is not None
    assert held.server.stop() == TERMINATED


def test_r8_finds_what_is_not_counted(crashing: Callable[..., Crashing], figures: Figures) -> None:
    """Planted: frames are given up that no counter has."""
    held = drop_oldest(crashing)
    fill_journal(held, "expiry not counted")
    with pytest.raises(pytest.fail.Exception, match="expired") as found:
        held.drained()
    figures(f"planted: expiry not counted: found by the sums ({str(found.value).splitlines()[0]})")


def drop_oldest(crashing: Callable[..., Crashing]) -> Crashing:
    """A server with a small journal, whose handler would rather lose the oldest than keep senders waiting."""
    return crashing(journal='max_bytes = "4 MiB"', handler='max_lag = "4 MiB"\nwhen_full = "drop_oldest"')


def fill_journal(held: Crashing, bug: str | None = None) -> Oracle:
    """Starts it, and sends more than fits while the handler is down; what was sent and acknowledged."""
    (held.folder / "down").touch()
    server = held.start(bug=bug)
    oracle = Oracle()
    with RelpClient(oracle, itertools.count(1), held.relp, limit=40_000) as client:
        assert client.finish(), (client.said, server.output()[-3000:])
    (held.folder / "down").unlink()
    return oracle


def test_r12_sigterm_under_load_loses_nothing_that_was_read(
    crashing: Callable[..., Crashing], figures: Figures
) -> None:
    """R12: plain TCP at 10,000 events/s. What was read before the end is delivered, by this process or the next.

    A sender of plain TCP does not know what was read: the server is made to write it down (`lines.txt`).
    """
    stops = scaled(4, 100)
    held = crashing(settings=PLAIN)
    wanted, delivered, longest = stop_under_load(held, stops)
    assert len(wanted) > stops * 500
    # The line that was cut when the connection was closed is a frame as well, marked as truncated.
    assert len(held.recorded().corrupted) <= stops, held.recorded().corrupted[:5]
    assert sorted(wanted - delivered)[:10] == []
    assert len(delivered - wanted) <= stops
    figures(f"R12 SIGTERM under load: {stops} stops, {len(wanted)} were read, 0 lost; longest stop {longest:.1f} s")
    # The long form has the machine to itself.
    assert longest <= scaled(8, 5)


def test_r12_finds_what_is_not_committed_at_the_end(crashing: Callable[..., Crashing], figures: Figures) -> None:
    """Planted: what was read last is never written."""
    wanted, delivered, _ = stop_under_load(crashing(settings=PLAIN), 2, "commit late")
    assert wanted - delivered
    figures(f"planted: commit late: found by SIGTERM ({len(wanted - delivered)} of {len(wanted)} lost)")


def stop_under_load(held: Crashing, stops: int, bug: str | None = None) -> tuple[set[int], set[int], float]:
    """Stops a server so many times: the numbers that it has read, those that were delivered, the longest stop."""
    chance = random.Random(12)
    longest = 0.0
    first = 1
    read: list[range] = []
    for _ in range(stops):
        server = held.start(bug=bug, count_lines=True)
        end, began = _send(held.relp, first, chance.uniform(0.2, 0.6), partial(server.send_signal, signal.SIGTERM))
        assert server.wait() == TERMINATED, server.output()[-3000:]
        longest = max(longest, time.monotonic() - began)
        lines = int((held.folder / "lines.txt").read_text())
        read.append(range(first, first + lines))
        first = end
    held.start()
    held.drained()
    return set(itertools.chain.from_iterable(read)), set(held.recorded().numbers.values()), longest


def test_r12_sighup_under_load_loses_nothing_and_refuses_nobody(
    crashing: Callable[..., Crashing], figures: Figures
) -> None:
    """R12: 10,000 lines a second go on through every SIGHUP, and whoever connects meanwhile gets in."""
    held = crashing(settings=PLAIN)
    server = held.start()
    signals = scaled(5, 100)
    first = 1
    for _ in range(signals):
        with socket.create_connection(("127.0.0.1", held.relp), timeout=20) as source:
            for part in range(10):
                if part == 5:
                    server.send_signal(signal.SIGHUP)
                # Refused, this raises.
                socket.create_connection(("127.0.0.1", held.relp), timeout=20).close()
                source.sendall(b"".join(message(first + each) + b"\n" for each in range(100)))
                first += 100
                time.sleep(0.01)
    held.drained()
    recorded = held.recorded()
    assert sorted(recorded.numbers.values()) == list(range(1, first))
    assert (set(recorded.times.values()), recorded.corrupted) == ({1}, [])
    assert sum("opened again" in line for line in (*server.stdout, *server.stderr)) == signals
    assert held.troubles() == []
    figures(f"R12 SIGHUP under load: {signals} signals, {first - 1} lines, 0 lost, {10 * signals} connected meanwhile")


def _send(port: int, first: int, seconds: float, stop: Callable[[], None], rate: int = 10_000) -> tuple[int, float]:
    """Sends lines from number `first` on; after `seconds` calls `stop` and goes on until the connection is closed.

    Returns the number behind the last that was sent, in part or whole, and when `stop` was called.
    """
    number = first
    step = rate // 100
    stopped = 0.0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while True:
                if not stopped and time.monotonic() - began > seconds:
                    stopped = time.monotonic()
                    stop()
                late = (time.monotonic() - began) * rate - (number - first)
                if late < step:
                    # Waits for the next hundredth of a second, or for the end of the connection.
                    connection.settimeout((step - late) / rate)
                    with contextlib.suppress(TimeoutError):
                        if not connection.recv(1):
                            break
                    connection.settimeout(20)
                data = b"".join(message(each) + b"\n" for each in range(number, number + step))
                number += step
                connection.sendall(data)
    return number, stopped
