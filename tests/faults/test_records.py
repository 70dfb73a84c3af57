"""`meta.db` on a disk that fails while it is written anew, again and again, and then loses power."""

from __future__ import annotations

import contextlib
import itertools
import random
from pathlib import Path

import pytest

from eventserver.journal._disk import DISK_ERRORS, Disk
from eventserver.journal._meta import DEAD, PAYLOAD, Changes, Meta
from tests.faults.crashing_disk import CrashingDisk
from tests.faults.disk_images import DiskImages
from tests.faults.figures import Figures, scaled
from tests.faults.planted import planted

pytestmark = pytest.mark.slow


def change(number: int) -> Changes:
    """A parked event, and a dead letter with its payload."""
    key = str(number)
    return {("failed", key): b"x" * 300, (DEAD, key): b"head", (PAYLOAD, key): b"%d " % number * 500}


def write_through_failures(folder: Path, failing: set[int], bug: str | None) -> tuple[CrashingDisk, int]:
    """Records are written, and syncs fail, by number; the disk's log, and where in it the failures begin."""
    folder.mkdir()
    disk = CrashingDisk(folder)
    with planted(bug), disk.patched():
        meta = Meta(Disk(), folder)
        meta.open()
        owed: Changes = {}
        for number in range(1, 8):
            if number == 3:
                began = len(disk.log)
                disk.faults.fail_sync = {disk.faults.syncs + each for each in failing}
            owed |= change(number)
            with contextlib.suppress(*DISK_ERRORS):
                meta.write(owed)
                owed = {}
                disk.mark(number)
        meta._disconnect()
    return disk, began


def problems_after(image: Path, written: int) -> list[str]:
    """What is not there of what had been written, up to a number."""
    meta = Meta(Disk(), image)
    meta.open()
    try:
        numbers = range(1, written + 1)
        lost = [number for number in numbers if ("failed", str(number)) not in meta.records]
        payloads = meta.payloads([str(number) for number in numbers])
        lost += [number for number in numbers if payloads.get(str(number)) != change(number)[PAYLOAD, str(number)]]
        return [f"{lost} of {written} are gone"] if lost else []
    finally:
        meta.close()


def cut_power(folder: Path, failing: set[int], bug: str | None = None) -> tuple[list[str], int]:
    """What is wrong after power cuts at any moment since the failures began, and how many calls failed."""
    disk, began = write_through_failures(folder / "-".join(map(str, failing)), failing, bug)
    images = DiskImages(disk.log)
    chance = random.Random(str(failing))
    wrong = []
    for point in images.points(scaled(12, 100), chance, began):
        images.write_image(folder / "image", chance)
        found = problems_after(folder / "image", max(images.marks, default=0))
        wrong += [f"syncs {failing} fail, cut before line {point} of {len(disk.log)}: {each}" for each in found]
    return wrong, disk.faults.failed


def pairs(most: int) -> list[set[int]]:
    return [set(pair) for pair in itertools.combinations_with_replacement(range(1, most + 1), 2)]


def test_two_failures_and_a_power_cut_lose_no_record(tmp_path: Path, figures: Figures) -> None:
    """Any two syncs fail while `meta.db` is written anew: what was written is all there."""
    wrong: list[str] = []
    failed = cuts = 0
    chosen = pairs(scaled(9, 20))
    for failing in chosen:
        found, times = cut_power(tmp_path, failing)
        wrong += found
        failed += times
        cuts += scaled(12, 100)
    assert wrong == [], "\n".join(wrong[:20])
    assert failed > len(chosen) / 2
    figures(f"R10 two syncs of meta.db fail: {failed} failures, {cuts} power cuts after them, no record lost")


def test_a_planted_bug_is_found(tmp_path: Path, figures: Figures) -> None:
    """A file that is removed before another has its name is gone after some of these power cuts."""
    for failing in pairs(9):
        wrong, _ = cut_power(tmp_path, failing, "former records removed first")
        if wrong:
            figures(f"planted: former records removed first: found by failing syncs ({wrong[0]})")
            return
    pytest.fail("the bug was not found", pytrace=False)
