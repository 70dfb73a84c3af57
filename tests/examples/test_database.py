"""The orders of examples/database: each of them is counted once, though the handler dies between commit and return."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from eventserver.testing import make_event
from tests.examples.conftest import Example
from tests.realprograms import TERMINATED, Program, beside_python

#: A handler that dies the first time half way through its transaction, and the second time between commit and return.
#: The first time it waits before it does anything, until the test has opened the pipe `go`.
DYING = """
import os, signal
from pathlib import Path
import database

add = database.add

def store(events: list[database.Event]):
    if first_time("half way"):
        Path("go").read_bytes()
        database.add = add_and_die
    database.store(events)
    if first_time("before the return"):
        die()

def add_and_die(*order):
    add(*order)
    die()

def die():
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()

def first_time(name):
    try:
        Path(name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
"""


def rows(folder: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(folder / "orders.db")) as database:
        return database.execute("SELECT customer, cents FROM orders ORDER BY customer, cents").fetchall()


def sums(folder: Path) -> dict[str, int]:
    with closing(sqlite3.connect(folder / "orders.db")) as database:
        return dict(database.execute("SELECT name, cents FROM customers").fetchall())


def test_an_order_that_comes_again_changes_nothing(example: Example, folder: Path) -> None:
    database = example("database")
    orders = [
        make_event(id=f"b-{number}", fields={"customer": "ann" if number % 2 else "bob", "cents": number})
        for number in range(10)
    ]
    for again in (orders[:6], orders[3:], orders):
        database.store(again)
    assert len(rows(folder / "database")) == 10
    assert sums(folder / "database") == {"ann": 1 + 3 + 5 + 7 + 9, "bob": 2 + 4 + 6 + 8}


def test_a_pile_is_stored_whole_or_not_at_all(example: Example, folder: Path) -> None:
    database = example("database")
    good = make_event(id="b-1", fields={"customer": "ann", "cents": 1})
    with pytest.raises(KeyError):
        database.store([good, make_event(id="b-2", fields={"customer": "bob"})])
    assert rows(folder / "database") == []


def start(place: Path, ack: str) -> tuple[Program, int]:
    """The example's server with the handler that dies, on a free port."""
    settings = (place / "database.toml").read_text().replace("database:store", "dying:store")
    settings = settings.replace("tcp:8080", "tcp:0").replace("decoder ", f'ack = "{ack}"\ndecoder ')
    (place / "test.toml").write_text(settings)
    server = Program([beside_python("twistd"), "-n", "eventserver", "-c", "test.toml"], cwd=place)
    port = int(server.wait_for(r"listening on tcp 127\.0\.0\.1:(\d+)")[1])
    return server, port


def post(port: int, orders: list[dict[str, object]]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/", json.dumps(orders), {"Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


def live_through_it(place: Path) -> None:
    """500 orders, killed half way through the transaction, then between commit and return; then one order more."""
    (place / "dying.py").write_text(DYING)
    os.mkfifo(place / "go")
    orders: list[dict[str, object]] = [{"customer": f"c{number % 7}", "cents": number} for number in range(500)]
    server, port = start(place, "durable")
    with server:
        assert post(port, orders) == 200  # on disk: whatever becomes of the handler, they are not lost
        (place / "go").write_bytes(b"")
        assert server.wait() == -signal.SIGKILL
    assert rows(place) == []
    server, _ = start(place, "durable")
    with server:
        assert server.wait() == -signal.SIGKILL
    assert rows(place), "the first pile is committed"
    server, port = start(place, "delivered")
    with server:
        assert post(port, [{"customer": "last", "cents": 1}]) == 200
        assert server.stop() == TERMINATED, server.output()


@pytest.mark.slow
def test_killed_in_the_middle_every_order_is_there_once(folder: Path) -> None:
    place = folder / "database"
    live_through_it(place)
    assert len(rows(place)) == 501
    assert sum(sums(place).values()) == sum(range(500)) + 1
    assert sums(place)["c0"] == sum(range(0, 500, 7))


@pytest.mark.slow
def test_without_the_key_some_would_be_there_twice(folder: Path) -> None:
    """So the test above can fail."""
    place = folder / "database"
    text = (place / "database.py").read_text()
    for part, worse in (("event_id TEXT PRIMARY KEY", "event_id TEXT"), (" ON CONFLICT (event_id) DO NOTHING", "")):
        assert part in text
        text = text.replace(part, worse)
    (place / "database.py").write_text(text)
    live_through_it(place)
    assert len(rows(place)) > 501
