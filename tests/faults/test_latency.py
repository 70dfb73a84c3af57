"""R17: how fast durable acknowledgements come. Machines are shared: figures are printed, only ratios are strict."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from tests.faults.clients import Client, HttpClient, RelpClient
from tests.faults.figures import Figures, scaled
from tests.faults.oracle import Oracle
from tests.faults.servers import Crashing

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.mark.parametrize("kind", [RelpClient, HttpClient])
@pytest.mark.parametrize("rate", [1000, 5000])
def test_r17_latency_of_the_acknowledgement(
    crashing: Callable[..., Crashing], kind: type[Client], rate: int, figures: Figures
) -> None:
    """Open loop, 300 bytes: counted from when a message was due. Goal at 5,000/s: p99 at most 50 ms."""
    held = crashing()
    held.start()
    oracle = Oracle()
    port = held.relp if kind is RelpClient else held.http
    with kind(oracle, itertools.count(1), port, rate=rate, limit=rate * scaled(3, 20), window=2000) as client:
        assert client.finish(), client.said
    held.drained()
    assert oracle.problems(held.recorded()) == []
    skip = rate // 2
    p50, p99, most = (client.percentile(share, skip) for share in (0.5, 0.99, 1.0))
    figures(
        f"R17 {kind.__name__} at {rate}/s: acknowledged after p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {most:.0f}"
    )
    assert p50 <= 100
    assert p99 <= 1000


@pytest.mark.parametrize("kind", [RelpClient, HttpClient])
def test_r17_sustained_rate(crashing: Callable[..., Crashing], kind: type[Client], figures: Figures) -> None:
    """As fast as acknowledgements allow, one connection. Goal: 20,000/s; the client shares the cores."""
    held = crashing()
    held.start()
    oracle = Oracle()
    count = scaled(60_000, 600_000)
    port = held.relp if kind is RelpClient else held.http
    more = {"per_request": 500} if kind is HttpClient else {}
    began = time.monotonic()
    with kind(oracle, itertools.count(1), port, limit=count, window=4000, **more) as client:
        assert client.finish(), client.said
        rate = client.acked / (time.monotonic() - began)
    held.drained()
    assert oracle.problems(held.recorded()) == []
    figures(f"R17 {kind.__name__} at full speed: {rate:,.0f} acknowledged/s, delivered as well, 0 lost")
    assert rate >= 5000
