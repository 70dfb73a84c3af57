"""What senders repeat, recognised by the key that their protocol gives it: `Idempotency-Key`, CloudEvents' names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol


class Keys(Protocol):
    """Where keys are remembered: a journal on disk (see `IDurableJournal`), or `KeyWindow`."""

    def recall(self, scope: str, key: str) -> int | None:
        """The position behind the frame of that key, if it is still remembered."""

    def remember(self, scope: str, keys: Sequence[tuple[str, int]]) -> None:
        """Remember keys, each with the position behind its frame."""


class KeyWindow:
    """Keys in memory, where there is no journal on disk: bounded by number and age, the oldest go first."""

    def __init__(self, seconds: Callable[[], float], max_keys: int, max_age: float) -> None:
        self._seconds = seconds
        self._max_keys = max_keys
        self._max_age = max_age
        self._keys: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def recall(self, scope: str, key: str) -> int | None:
        """The position behind the frame of that key, if it is still remembered."""
        self._forget_old()
        found = self._keys.get((scope, key))
        return None if found is None else found[0]

    def remember(self, scope: str, keys: Sequence[tuple[str, int]]) -> None:
        """Remember keys; one that is known already counts as new."""
        now = self._seconds()
        for key, position in keys:
            self._keys.pop((scope, key), None)
            self._keys[scope, key] = (position, now)
        self._forget_old()

    def _forget_old(self) -> None:
        keys, oldest = self._keys, self._seconds() - self._max_age
        while keys:
            if len(keys) <= self._max_keys and keys[next(iter(keys))][1] >= oldest:
                break
            keys.popitem(last=False)


class Sifted:
    """The frames of a request that are new, with their keys; `known` is the position behind the last that is not."""

    def __init__(self, frames: list[bytes], keys: list[str]) -> None:
        self.frames = frames
        self.keys = keys
        self.known = 0
        self.repeated = 0


def sift(store: Keys, scope: str, frames: list[bytes], keys: list[str]) -> Sifted:
    """Leave out the frames whose keys are remembered, or come twice in this request."""
    sifted = Sifted([], [])
    seen = set()
    for frame, key in zip(frames, keys, strict=True):
        position = store.recall(scope, key)
        if position is None and key not in seen:
            seen.add(key)
            sifted.frames.append(frame)
            sifted.keys.append(key)
            continue
        sifted.repeated += 1
        sifted.known = max(sifted.known, position or 0)
    return sifted
