"""R9: the journal's disk is full, and later it is not. R10 with real system calls: syncs and writes that fail."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.clients import RelpClient
from tests.faults.figures import Figures, scaled
from tests.faults.oracle import Oracle
from tests.faults.servers import Crashing
from tests.real.server import Server
from tests.realprograms import DEADLINE, required

pytestmark = [pytest.mark.real, pytest.mark.slow]

DISK = 64 << 20


class SmallDisk:
    """How a command runs with a file system of 64 MiB in the place of a folder: ext4 on a loop device, else tmpfs.

    It is mounted in a mount namespace of its own, and is gone when the command ends.
    """

    def __init__(self, folder: Path, image: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.kind = ""
        owner = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
        ways = [("tmpfs", f"mount -t tmpfs -o size={DISK} tmpfs {folder}")]
        if shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin"):
            with image.open("wb") as file:
                file.truncate(DISK)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=False, env=_with_sbin())
            ways.insert(0, ("ext4", f"mount -o loop {image} {folder}"))
        for self.kind, mount in ways:
            self.before = [*owner, "sh", "-c", f'{mount} && exec "$@"', "sh"]
            tried = subprocess.run([*self.before, "true"], capture_output=True, check=False, env=_with_sbin())
            if tried.returncode == 0:
                return
        said = f"no file system can be mounted: {tried.stderr.decode(errors='replace').strip()}"
        if required():
            pytest.fail(f"{said}, and EVENTSERVER_REQUIRE_REAL is set", pytrace=False)
        pytest.skip(said)


def _with_sbin() -> dict[str, str]:
    return {**os.environ, "PATH": os.environ.get("PATH", "") + ":/sbin:/usr/sbin"}


def test_r9_a_full_disk_and_room_again(
    crashing: Callable[..., Crashing], real_program: Callable[[str], str], figures: Figures
) -> None:
    """R9: the server stays up and acknowledges nothing it cannot keep; with room again it goes on by itself."""
    real_program("unshare")
    held = crashing(journal='max_bytes = "1 GiB"')
    disk = SmallDisk(held.folder / "journal", held.folder / "disk.img")
    server = held.start(before=disk.before)
    # The disk as the server sees it: its namespace is not ours.
    inside = Path(f"/proc/{server.pid}/root{held.folder}/journal")
    assert os.statvfs(inside).f_blocks * os.statvfs(inside).f_frsize <= DISK
    oracle = Oracle()
    with RelpClient(oracle, itertools.count(1), held.relp, rate=3000) as client:
        assert client.wait_acked(1000), client.said
        fill(inside / "filler")
        assert _stops(client, server), "the disk never was full, or it says that it is ready"
        full_at = client.acked
        assert not server.ended()
        (inside / "filler").unlink()
        began = time.monotonic()
        assert client.wait_acked(full_at + 1), server.output()[-3000:]
        resumed = time.monotonic() - began
        assert client.wait_acked(full_at + 5000), client.said
        assert client.finish(), client.said
    held.drained()
    assert oracle.problems(held.recorded()) == []
    assert held.troubles() == []
    figures(
        f"R9 full disk ({disk.kind}): stayed up, stopped at {full_at} acknowledged, resumed {resumed:.1f} s after there"
        f" was room; {len(oracle.acked)} acknowledged, 0 lost"
    )
    assert resumed <= 5


def fill(path: Path) -> None:
    """Takes all the room that there is."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


def _stops(client: RelpClient, server: Server) -> bool:
    """Whether acknowledgements stop to come, and the server says that it is not ready: a slow machine is not it."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if not client.wait_acked(client.acked + 1, timeout=1) and server.get("/ready")[0] != 200:
            return True
    return False


@pytest.mark.parametrize(("call", "error"), [("fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC")])
def test_r10_calls_that_fail(
    crashing: Callable[..., Crashing],
    real_program: Callable[[str], str],
    call: str,
    error: str,
    figures: Figures,
) -> None:
    """R10: the Nth call of a kind fails; the server goes on, and after a kill everything acknowledged is there.

    A segment whose sync or write has failed is not touched again, which is counted: another one takes its place.
    """
    strace = real_program("strace")
    held = crashing()
    oracle = Oracle()
    faults = scaled(1, 20)
    # The first calls belong to the start: a server whose disk fails then does not start. In the long form all of the
    # next twenty fail, in the short one some one of them.
    times = random.Random(f"{call} {error}").sample(range(15, 15 + 20), faults)
    anew = 0
    with RelpClient(oracle, itertools.count(1), held.relp, rate=1000) as client:
        for when in times:
            inject = f"inject={call}:error={error}:when={when}"
            under = [strace, "-f", "-y", "-qq", "-o", str(held.folder / "trace"), "-e", f"trace={call}", "-e", inject]
            server = held.start(before=under)
            _wait_for_text(held.folder / "trace", "INJECTED")
            assert client.wait_acked(client.acked + 1500), (client.said[-5:], server.output()[-3000:])
            assert not server.ended()
            if error == "EIO" and "/seg-" in _injected(held.folder / "trace"):
                assert server.metrics().total("journal_disk_errors_total") >= 1
                anew += 1
            server.kill()
        held.start()
        assert client.finish(), client.said
    held.drained()
    assert oracle.problems(held.recorded()) == []
    assert held.troubles() == []
    figures(
        f"R10 {call} fails with {error}, {faults} times: {len(oracle.acked)} acknowledged, 0 lost; {anew} new segments"
    )


def _injected(path: Path) -> str:
    """The call that failed, as strace has it."""
    return next(line for line in path.read_text(errors="replace").splitlines() if "INJECTED" in line)


def _wait_for_text(path: Path, text: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while text not in (path.read_text(errors="replace") if path.exists() else ""):
        assert time.monotonic() < deadline, f"{text} did not come"
        time.sleep(0.02)
