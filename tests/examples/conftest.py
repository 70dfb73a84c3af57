"""Examples, as people use them: each in its own folder, imported from there."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.realprograms import ROOT

Example = Callable[[str], ModuleType]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the examples' folder."""
    return Path(shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    """`example("device")` is the module `examples/device/device.py`, freshly imported, its folder being the current."""
    loaded = []

    def load(name: str) -> ModuleType:
        monkeypatch.chdir(folder / name)
        monkeypatch.syspath_prepend(str(folder / name))
        loaded.append(name)
        return importlib.import_module(name)

    yield load
    for name in loaded:
        sys.modules.pop(name, None)
