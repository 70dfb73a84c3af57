"""Orders into SQLite, each of them once, whatever happens in between.

The event server hands an event over again when it cannot know that the handler was done with it: after a crash, a
restart, an error. The event's id is the same each time, so it is the key of the table, and an order that is there
already is left alone. What has to happen together (here: the order, and the sum of its customer) is in one transaction.
"""

import sqlite3
from contextlib import closing

from eventserver import Event

PATH = "orders.db"

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (event_id TEXT PRIMARY KEY, customer TEXT NOT NULL, cents INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS customers (name TEXT PRIMARY KEY, cents INTEGER NOT NULL) STRICT;
"""


def store(events: list[Event]) -> None:
    """Called in a thread, with all the orders that wait. To return is to say that they are safe, so the commit comes
    before."""
    with closing(sqlite3.connect(PATH)) as database:
        database.executescript(SCHEMA)
        with database:  # one transaction, committed at its end, rolled back by an exception
            for event in events:
                add(database, event.id, event.fields["customer"], event.fields["cents"])


def add(database: sqlite3.Connection, event_id: str, customer: str, cents: int) -> None:
    """One order. Whatever else it changes is changed only if it is new."""
    new = database.execute(
        "INSERT INTO orders VALUES (?, ?, ?) ON CONFLICT (event_id) DO NOTHING", (event_id, customer, cents)
    ).rowcount
    if new:
        database.execute(
            "INSERT INTO customers VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET cents = cents + excluded.cents",
            (customer, cents),
        )
