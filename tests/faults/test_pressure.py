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

import pytest

from tests.faults.clients import RelpClient
from tests.faults.figures import Figures, scaled
from tests.faults.oracle import Oracle, message
from tests.faults.servers import SETTINGS, Crashing
from tests.realprograms import TERMINATED

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: A second handler, which is never down.
OTHER = """
[handler.other]
type = "file"
path = "other.txt"
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
    """R7: nothing is lost, what waited is delivered faster than it came, and the other handler notices nothing."""
    rate = 5000
    # Room for the whole outage: what happens without is R8. And no wait of minutes until the next attempt.
    handler = 'max_lag = "8 GiB"\nretry = {max_interval = "2 s"}'
    held = crashing(settings=SETTINGS + OTHER, journal='max_bytes = "16 GiB"', handler=handler)
    (held.folder / "down").touch()
    server = held.start()
    oracle = Oracle()
    with RelpClient(oracle, itertools.count(1), held.relp, rate=rate, window=2000) as client:
        delayed = 0
        deadline = time.monotonic() + scaled(4, 600)
        while time.monotonic() < deadline:
            assert client.wait_acked(client.acked + rate // 4), client.said
            metrics = server.metrics()
            delayed = max(delayed, metrics.total("handler_lag_frames", handler="other"))
        waiting = metrics.total("handler_lag_frames", handler="recorder")
        assert waiting >= client.acked - 2 * rate, "the handler was not down"
        (held.folder / "down").unlink()
        began = time.monotonic()
        before = client.acked
        while server.metrics().total("handler_lag_frames", handler="recorder") > rate // 4:
            assert time.monotonic() < began + 120, server.output()[-3000:]
        seconds = time.monotonic() - began
        drained = waiting + client.acked - before
        assert client.finish(), client.said
    held.drained()
    assert oracle.problems(held.recorded()) == []
    assert delayed < 2 * rate, "the other handler was delayed"
    figures(
        f"R7 destination down: {waiting} events waited, 0 lost; delivered at {drained / seconds:,.0f}/s afterwards"
        f" ({drained / seconds / rate:.1f} times the rate of arrival); p99 of the acknowledgement"
        f" {client.percentile(0.99):.0f} ms throughout"
    )
    if seconds > 1:
        assert drained / seconds >= 2 * rate


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
    held = crashing(journal='max_bytes = "4 MiB"', handler='max_lag = "4 MiB"\nwhen_full = "drop_oldest"')
    (held.folder / "down").touch()
    server = held.start()
    oracle = Oracle()
    with RelpClient(oracle, itertools.count(1), held.relp, limit=40_000) as client:
        assert client.finish(), (client.said, server.output()[-3000:])
    (held.folder / "down").unlink()
    metrics = held.drained()
    expired = metrics.total("frames_expired_total", handler="recorder")
    recorded = held.recorded()
    missing = oracle.undelivered(recorded)
    assert missing == expired > 0
    assert recorded.corrupted == []
    figures(f"R8 full, drop_oldest: {len(oracle.acked)} acknowledged, {missing} not delivered, {expired} counted")
    assert server.stop() == TERMINATED


def test_r12_sigterm_under_load_loses_nothing_that_was_read(
    crashing: Callable[..., Crashing], figures: Figures
) -> None:
    """R12: plain TCP at 10,000 events/s. What was read before the end is delivered, by this process or the next.

    A sender of plain TCP does not know what was read: the server is made to write it down (`lines.txt`).
    """
    held = crashing(settings=PLAIN)
    chance = random.Random(12)
    stops = scaled(4, 100)
    longest = 0.0
    first = 1
    read: list[range] = []
    for _ in range(stops):
        server = held.start(count_lines=True)
        end, began = _send(held.relp, first, chance.uniform(0.2, 0.6), partial(server.send_signal, signal.SIGTERM))
        assert server.wait() == TERMINATED, server.output()[-3000:]
        longest = max(longest, time.monotonic() - began)
        lines = int((held.folder / "lines.txt").read_text())
        read.append(range(first, first + lines))
        first = end
    held.start()
    held.drained()
    recorded = held.recorded()
    delivered = set(recorded.numbers.values())
    wanted = set(itertools.chain.from_iterable(read))
    assert len(wanted) > stops * 500
    # The line that was cut when the connection was closed is a frame as well, marked as truncated.
    assert len(recorded.corrupted) <= stops, recorded.corrupted[:5]
    assert sorted(wanted - delivered)[:10] == []
    assert len(delivered - wanted) <= stops
    figures(
        f"R12 SIGTERM under load: {stops} stops, {len(wanted)} of {first - 1} sent were read, 0 of these lost;"
        f" longest stop {longest:.1f} s"
    )
    assert longest <= 8


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
