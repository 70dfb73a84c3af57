"""What connections leave of the files that the process may open."""

from __future__ import annotations

import errno
import os
import resource
from typing import Any

import pytest
from twisted.internet.address import IPv4Address

from eventserver.listeners._limits import ConnectionLimits, few_descriptors


@pytest.mark.parametrize(
    ("limit", "taken", "few"),
    [
        (65536, 65407, False),
        (65536, 65408, True),
        (256, 191, False),
        (256, 192, True),
        (resource.RLIM_INFINITY, 1 << 20, False),
    ],
)
def test_the_last_descriptors_are_not_for_connections(
    monkeypatch: pytest.MonkeyPatch, limit: int, taken: int, few: bool
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    monkeypatch.setattr(os, "open", lambda *_: taken)
    monkeypatch.setattr(os, "close", lambda descriptor: None)
    assert few_descriptors() is few


def test_where_none_is_left_these_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    assert not few_descriptors()
    monkeypatch.setattr(os, "open", refuse)
    assert few_descriptors()


def test_a_connection_is_refused_while_descriptors_are_few() -> None:
    few = True
    limits = ConnectionLimits(2, 2, lambda: few)
    address = IPv4Address("TCP", "192.0.2.1", 1)
    assert limits.refusal(address) == "descriptors"
    few = False
    assert limits.refusal(address) is None
