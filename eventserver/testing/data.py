"""Events and batches for tests."""

from __future__ import annotations

import datetime as dt
from typing import Any

from eventserver.event import Batch, Event

#: When everything in tests is received, unless they say otherwise.
RECEIVED = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PEER = "192.0.2.1:50000"
BATCH_ID = "01JGFJJZ000000000000000000"


def make_event(message: str = "", **keys: Any) -> Event:
    """An event of type `text` from a peer of documentation's network; `keys` are other attributes of `Event`."""
    given: dict[str, Any] = {
        "id": f"{BATCH_ID}-0",
        "time": keys.get("received", RECEIVED),
        "received": RECEIVED,
        "listener": "test",
        "peer": PEER,
        "type": "text",
        "message": message,
    }
    return Event(**given | keys)


def make_batch(*frames: bytes, **keys: Any) -> Batch:
    """A batch of these frames from one peer; `keys` are other attributes of `Batch`."""
    given: dict[str, Any] = {
        "id": BATCH_ID,
        "listener": "test",
        "decoder": "text",
        "received": RECEIVED,
        "peers": [PEER],
        "frames": list(frames),
    }
    return Batch(**given | keys)
