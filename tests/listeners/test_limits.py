"""The limit of open files."""

from __future__ import annotations

import resource

import pytest

from eventserver.limits import raise_descriptor_limit


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The limits that were set; the process's own stay."""
    seen = [(1024, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: seen[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: seen.append(limits))
    return seen


def test_soft_limit_is_raised_to_the_hard_one(limits: list[tuple[int, int]]) -> None:
    assert raise_descriptor_limit() == 4096
    assert limits[1:] == [(4096, 4096)]
    assert raise_descriptor_limit() == 4096
    assert len(limits) == 2


def test_limit_stays_where_the_system_refuses(limits: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_descriptor_limit() == 1024
