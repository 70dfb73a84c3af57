"""`python -m tests.fuzz.hostile [--quick]`: 64 KiB of what is awkward, for everything that is fuzzed.

Prints what raises and what takes more than a second of the processor, and in the last line the largest memory of the
process in KiB. The exit code is 1 if something raised or took too long. `--quick` is a part of it.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator

from tests.fuzz.seeds import AWKWARD, bombs, seeds
from tests.fuzz.targets import Target, targets

SIZE = 65_536
LONGEST = 1.0
#: Where the process gives up, in bytes, so that what eats memory does not eat that of the machine.
GIVE_UP = 2 << 30


def hostile(name: str, quick: bool = False) -> Iterator[bytes]:
    """Long inputs for a target, and bombs; the leading NUL says that they come in one piece."""
    start = max(seeds(name)[:8], key=len)
    for number, piece in enumerate(AWKWARD):
        run = piece * (SIZE // len(piece))
        # As all there is, behind something, and in the middle of something that then never ends.
        found = [run, start + run, start[: len(start) // 2] + run + start[len(start) // 2 :]]
        if quick:
            found = found[number % 6 : number % 6 + 1]
        if piece.endswith(b","):
            found.append(b"[" + run[:-1] + b"]")
        yield from (b"\0" + data for data in found)
    yield from (b"\0" + data for data in bombs(name))


def findings(chosen: dict[str, Target], quick: bool = False) -> Iterator[str]:
    """A line for each input that raised or took too long."""
    for name, target in chosen.items():
        for data in hostile(name, quick):
            begin = time.process_time()
            try:
                target(data)
            except Exception as error:
                yield f"{name}: {error!r:.300} for {data[:60]!r}"
            took = time.process_time() - begin
            if took > LONGEST:
                yield f"{name}: {took:.1f} s for {data[:60]!r}"


def main(arguments: list[str]) -> int:
    """Try everything; returns the exit code."""
    resource.setrlimit(resource.RLIMIT_AS, (GIVE_UP, GIVE_UP))
    found = list(findings(targets(), quick="--quick" in arguments))
    sys.stdout.writelines(f"{line}\n" for line in [*found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
