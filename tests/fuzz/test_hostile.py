"""Nothing raises, hangs or fills the memory, whatever it is given 64 KiB of."""

from __future__ import annotations

import re
import sys
import time

from tests import realprograms
from tests.fuzz import hostile

MOST_KIB = 256 << 10


def test_nothing_awkward_raises_takes_a_second_or_256_mib() -> None:
    """In a process of its own, whose memory is that of all of it."""
    done = realprograms.run(realprograms.of_its_own([sys.executable, "-m", "tests.fuzz.hostile", "--quick"]))
    *found, memory = done.stdout.decode().splitlines()
    assert (done.returncode, found) == (0, []), done.stderr.decode()
    assert int(memory) < MOST_KIB


def test_what_raises_and_what_takes_long_is_found() -> None:
    """The measure is one."""

    def raises(data: bytes) -> None:
        if data.startswith(b'\0"""'):
            raise ValueError("no quotes")

    def slow(data: bytes) -> None:
        if data.startswith(b"\0'''"):
            end = time.process_time() + hostile.LONGEST + 0.01
            while time.process_time() < end:
                pass

    found = list(hostile.findings({"decoder:text": raises}))
    assert found
    assert all(line.startswith("decoder:text: ValueError('no quotes') for ") for line in found)
    [line] = hostile.findings({"decoder:text": slow})
    assert re.match(r"decoder:text: 1\.\d s for ", line)
