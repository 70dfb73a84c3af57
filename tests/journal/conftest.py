"""Journals in a folder of the test's own, on a disk that fails if the test asks for that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .faulty import Faults, faulty_disk
from .world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "journal")


@pytest.fixture
def faults(world: World) -> Iterator[Faults]:
    """What is wrong with the disk of `world`: nothing, until the test says so."""
    with faulty_disk() as (disk, faults):
        world.settings["disk"] = disk
        yield faults
