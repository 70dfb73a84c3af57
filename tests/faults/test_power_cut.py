"""R4: power cuts. R10: syncs and writes that fail. R11: damaged files. The journal on the crashing disk, in process."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventserver.journal._executor import InlineExecutor
from tests.faults.crashing_disk import CrashingDisk
from tests.faults.disk_images import DiskImages
from tests.faults.figures import Figures, scaled
from tests.faults.judging import problems_after, read_some
from tests.faults.planted import planted
from tests.faults.simulation import Failed, FakeTime, Simulation, check_entry, open_journal

pytestmark = pytest.mark.slow


@pytest.fixture
def fast_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: tens of thousands of images are written."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    folder = memory / f"eventserver-faults-{tmp_path.name}-{random.SystemRandom().getrandbits(32):x}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def cut_power(folder: Path, seed: int, steps: int, cuts: int, bug: str | None = None) -> tuple[list[str], float]:
    """Runs a workload, cuts the power at random moments in it; what is wrong afterwards, and the slowest recovery."""
    root = folder / "disk"
    root.mkdir()
    chance = random.Random(seed)
    wrong: list[str] = []
    slowest = 0.0
    with planted(bug):
        disk = CrashingDisk(root)
        with disk.patched():
            # With a bug, what was committed is read from memory, so that the power cut has to show what is not on the
            # disk; without a restart, before which it may be.
            simulation = Simulation(disk, seed, **({"window": 32 << 20} if bug else {}))
            simulation.run(steps)
            simulation.close()
    images = DiskImages(disk.log)
    for point in images.points(cuts, chance):
        images.write_image(folder / "image", chance)
        found, seconds = problems_after(folder / "image" / "journal", images.marks)
        slowest = max(slowest, seconds)
        wrong += [f"seed {seed}, cut before line {point} of {len(disk.log)}: {each}" for each in found]
        if bug and wrong:
            break
    shutil.rmtree(root)
    return wrong, slowest


def test_r4_power_cuts(fast_folder: Path, figures: Figures) -> None:
    """R4: whatever of the unsynced sectors and names survives, nothing acknowledged is lost, and it opens at once."""
    runs, cuts = scaled(10, 500), 100
    wrong: list[str] = []
    slowest = 0.0
    for seed in range(runs):
        found, seconds = cut_power(fast_folder, seed, 300, cuts)
        wrong += found
        slowest = max(slowest, seconds)
    assert wrong == [], "\n".join(wrong[:20])
    figures(f"R4 power cuts: {runs * cuts}, 0 acknowledged lost, all files whole; slowest recovery {slowest:.2f} s")
    assert slowest < 1


@pytest.mark.parametrize("bug", ["synchronous=NORMAL", "no folder sync", "unlink before cursor commit", "commit late"])
def test_planted_bugs_are_found_by_power_cuts(fast_folder: Path, bug: str, figures: Figures) -> None:
    """Each of these bugs is found within 500 power cuts."""
    for seed in range(5):
        wrong, _ = cut_power(fast_folder, seed, 149, 100, bug)
        if wrong:
            figures(f"planted: {bug}: found by power cuts ({wrong[0]})")
            return
    pytest.fail(f"{bug} was not found by 500 power cuts", pytrace=False)


def fail_call(folder: Path, kind: str, number: int, **options: Any) -> tuple[list[str], int]:
    """A workload in which a call fails, and power cuts after it.

    Returns what is wrong afterwards, and how many calls failed.
    """
    root = folder / "disk"
    root.mkdir()
    disk = CrashingDisk(root)
    chance = random.Random(number)
    with disk.patched():
        simulation = Simulation(disk, number, **options)
        counted = disk.faults.syncs if kind == "sync" else disk.faults.writes
        nth = {counted + chance.randint(1, 60)}
        disk.faults.fail_sync, disk.faults.fail_write = (nth, set()) if kind == "sync" else (set(), nth)
        simulation.run(120)
    wrong: list[str] = []
    images = DiskImages(disk.log)
    for point in (*images.points(4, chance, len(disk.log) // 2), len(disk.log)):
        images.go_to(point)
        images.write_image(folder / "image", chance)
        found, _ = problems_after(folder / "image" / "journal", images.marks)
        wrong += [f"fault {number} of {kind}, cut before line {point}: {each}" for each in found]
    shutil.rmtree(root)
    return wrong, disk.faults.failed


@pytest.mark.parametrize("kind", ["sync", "write"])
def test_r10_the_nth_call_fails(fast_folder: Path, kind: str, figures: Figures) -> None:
    """R10: EIO for the Nth fsync, a short write for the Nth write: what was acknowledged survives a power cut then."""
    faults = scaled(40, 600)
    wrong: list[str] = []
    failed = 0
    for number in range(1, faults + 1):
        found, times = fail_call(fast_folder, kind, number)
        wrong += found
        failed += times
    assert wrong == [], "\n".join(wrong[:20])
    assert failed >= faults / 2
    figures(f"R10 the Nth {kind} fails: {failed} failures, {5 * faults} power cuts after them, 0 acknowledged lost")


def test_a_planted_bug_is_found_by_failing_calls(fast_folder: Path, figures: Figures) -> None:
    """A commit that failed and is acknowledged all the same is found within 40 failures."""
    with planted("failed commit acknowledged"):
        runs = (fail_call(fast_folder, "sync", number, window=32 << 20)[0] for number in range(1, 41))
        wrong = next(filter(None, runs), [])
    assert wrong
    figures(f"planted: failed commit acknowledged: found by failing syncs ({wrong[0]})")


def test_r9_a_full_disk_and_power_cuts(fast_folder: Path, figures: Figures) -> None:
    """R9 on the simulated disk: it is full for a while, again and again; it goes on, and power cuts find all of it."""
    runs = scaled(30, 300)
    wrong: list[str] = []
    failed = 0
    for seed in range(runs):
        found, times = fill_disk(fast_folder, seed)
        wrong += found
        failed += times
    assert wrong == [], "\n".join(wrong[:20])
    assert failed >= runs
    figures(
        f"R9 full, simulated: {failed} refused writes, {10 * runs} power cuts, 0 acknowledged lost, it always goes on"
    )


def fill_disk(folder: Path, seed: int, **options: Any) -> tuple[list[str], int]:
    """A workload on a disk that is full for a while, four times, and power cuts in it.

    Returns what is wrong afterwards, and how many calls failed.
    """
    root = folder / "disk"
    root.mkdir()
    disk = CrashingDisk(root)
    chance = random.Random(seed)
    wrong: list[str] = []
    with disk.patched():
        simulation = Simulation(disk, seed, **options)
        for _ in range(4):
            disk.faults.capacity = disk.used() + chance.choice((0, 5_000, 30_000))
            simulation.run(30)
            disk.faults.capacity = None
            simulation.recover()
        simulation.close()
    images = DiskImages(disk.log)
    for point in images.points(10, chance):
        images.write_image(folder / "image", chance)
        found, _ = problems_after(folder / "image" / "journal", images.marks)
        wrong += [f"seed {seed}, cut before line {point}: {each}" for each in found]
    shutil.rmtree(root)
    return wrong, disk.faults.failed


def test_a_planted_bug_is_found_by_a_full_disk(fast_folder: Path, figures: Figures) -> None:
    """What did not fit and is acknowledged all the same is found within 30 runs."""
    with planted("failed commit acknowledged"):
        runs = (fill_disk(fast_folder, seed, window=32 << 20)[0] for seed in range(30))
        wrong = next(filter(None, runs), [])
    assert wrong
    figures(f"planted: failed commit acknowledged: found by a full disk ({wrong[0]})")


def test_r11_damaged_records(fast_folder: Path, figures: Figures) -> None:
    """R11: a flipped bit or a cut anywhere in `meta.db`: it starts, and no cursor is further than its handler was."""
    whole = fast_folder / "whole"
    whole.mkdir()
    disk = CrashingDisk(whole)
    simulation = Simulation(disk, 12, retention=3600.0)
    simulation.run(140)
    simulation.close()
    chance = random.Random(12)
    damages = scaled(100, 1000)
    wrong: list[str] = []
    for number in range(damages):
        folder = fast_folder / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        what = _damage(folder / "journal" / "0" / "meta.db", chance)
        marks = [op.data for op in disk.log if op.kind == "mark" and not isinstance(op.data, Failed)]
        found, _ = problems_after(folder / "journal", marks, cursors_may_be_gone=True)
        wrong += [f"damage {number}, {what}: {each}" for each in found]
    assert wrong == [], "\n".join(wrong[:20])
    figures(f"R11 damaged meta.db: {damages} of {damages} start, no frame is skipped")


@pytest.fixture
def closed_store(fast_folder: Path) -> tuple[Path, int]:
    """A journal with many segments, closed well, and its head."""
    whole = fast_folder / "whole"
    whole.mkdir()
    simulation = Simulation(CrashingDisk(whole), 11, retention=3600.0)
    for _ in range(400):
        simulation.append()
        simulation.work()
        simulation.at.clock.advance(0.01)
    simulation.close()
    assert len(list((whole / "journal" / "0").glob("seg-*.db"))) > 3
    return whole, simulation.journal.head


def test_r11_damaged_segments(fast_folder: Path, closed_store: tuple[Path, int], figures: Figures) -> None:
    """R11: a flipped bit or a cut anywhere in a closed store: it starts, and what is lost is reported, to the frame.

    Nothing wrong is ever delivered, and nothing is lost that lies in another file.
    """
    chance = random.Random(11)
    damages = scaled(150, 1000)
    losing = 0
    for _ in range(damages):
        wrong, missing = damage_segment(fast_folder, closed_store, chance)
        assert wrong is None
        losing += missing > 0
    figures(f"R11 damaged segments: {damages} of {damages} start; {losing} lost frames, each reported to the frame")
    assert losing


def test_a_planted_bug_is_found_by_damage(fast_folder: Path, closed_store: tuple[Path, int], figures: Figures) -> None:
    """Without checksums wrong frames are delivered, or frames are missing that nobody reports."""
    chance = random.Random(11)
    with planted("no checksums"):
        runs = (damage_segment(fast_folder, closed_store, chance)[0] for _ in range(150))
        found = next(filter(None, runs), None)
    assert found
    figures(f"planted: no checksums: found by damage ({found})")


def damage_segment(folder: Path, closed_store: tuple[Path, int], chance: random.Random) -> tuple[str | None, int]:
    """Damages a segment in a copy of the store: what is wrong then, and how many frames are missing."""
    whole, head = closed_store
    damaged = folder / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(whole, damaged)
    paths = sorted((damaged / "journal" / "0").glob("seg-*.db"))
    firsts = [int(path.stem.removeprefix("seg-")) for path in paths]
    number = chance.randrange(len(paths))
    what = _damage(paths[number], chance)
    try:
        delivered, reported = _read_damaged(damaged / "journal", head)
    except AssertionError as error:
        return f"{what}: {error}", 0
    missing = set(range(head)) - delivered
    if len(missing) != reported:
        return f"{what}: {len(missing)} missing, {reported} reported", len(missing)
    if not missing <= set(range(firsts[number], [*firsts, head][number + 1])):
        return f"{what}: frames of another file are missing", len(missing)
    return None, len(missing)


def _damage(path: Path, chance: random.Random) -> str:
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content))
    if chance.random() < 0.3:
        path.write_bytes(content[:at])
        return f"{path.name} cut at {at} of {len(content)}"
    content[at] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    return f"{path.name}: a bit of byte {at} of {len(content)} flipped"


def _read_damaged(folder: Path, head: int) -> tuple[set[int], int]:
    """The positions of the frames that a handler gets of a damaged journal, and how many the journal says it lost."""
    at, executor = FakeTime(), InlineExecutor()
    journal = open_journal(folder, at, executor, retention=3600.0)
    try:
        delivered: set[int] = set()
        reader = journal.reader("first")
        while True:
            got = read_some(reader, at)
            if not got:
                break
            for entry in got:
                check_entry(entry)
                delivered.update(range(entry.first, entry.end))
            journal.commit_cursor("first", got[-1].end)
        assert journal.head >= head
        return delivered, int(journal.info()["lost"])
    finally:
        closed = journal.close()
        assert closed.called
