"""Patches that concern one module, and no other thread of the process."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


def own_os(monkeypatch: pytest.MonkeyPatch, module: ModuleType, **functions: Callable[..., Any]) -> None:
    """Gives a module an `os` of its own, in which these functions are others.

    Patched in `os` itself they would be so for whatever thread happens to write or sync besides: Twisted wakes its
    reactor with `os.write`.
    """
    monkeypatch.setattr(module, "os", SimpleNamespace(**{**vars(os), **functions}))
