"""Replay: history once more to a handler, through today's decoders, while what is new goes on."""

from __future__ import annotations

from eventserver.replaying.counting import Counted
from eventserver.replaying.records import MARK, ReplayFile, ReplayRecord
from eventserver.replaying.replays import Replays
from eventserver.replaying.requests import ReplayError, ReplayRequest, position_of, time_of

__all__ = [
    "MARK",
    "Counted",
    "ReplayError",
    "ReplayFile",
    "ReplayRecord",
    "ReplayRequest",
    "Replays",
    "position_of",
    "time_of",
]
