"""Where the time goes: CPU seconds per million events of each stage, one after the other in one process.

    .venv/bin/python -m benchmarks.profile [--update-docs]

The stages are those that `benchmarks.guard` watches, and what the kernel takes to read and to write. The best of many
short turns is told: what a stage costs with everything it needs in the processor's caches, and nobody in its way. In a
server that reads from the network the same work takes a quarter to a half more.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from benchmarks import machine, pages, payloads
from benchmarks.rounds import MEMORY, ROOT
from benchmarks.stages import READ, Stage, stages

TURNS = 200
#: What a JSON event of an 80-byte line comes to, beside the 81 bytes of the line itself.
JSON_LINE, RAW_LINE = 235, 81


def reading() -> Iterator[Stage]:
    """What the kernel takes to hand over 64 KiB that came over the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near, far = socket.create_connection(server.getsockname()), server.accept()[0]
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * READ)
    data = bytes(READ)
    sent = Stage("", 1, lambda: near.sendall(data))

    def read() -> None:
        left = READ
        while left:
            left -= len(far.recv(left))

    sent.run()
    yield Stage("read 80-byte lines", READ // (payloads.lines().size + 1), read, sent.run)
    near.close()
    far.close()


def writing(folder: Path) -> Iterator[Stage]:
    """What the kernel takes to append what a read becomes, to a file in memory."""
    count = READ // RAW_LINE
    for name, size in (("raw", RAW_LINE), ("json", JSON_LINE)):
        fd = os.open(folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        data = bytes(size * count)
        yield Stage(f"write {name}", count, partial(os.write, fd, data), partial(os.ftruncate, fd, 0))
        os.close(fd)


def best(stage: Stage, turns: int, clock: Callable[[], float] = time.process_time) -> float:
    """CPU seconds per million events, of the fastest turn."""
    least = float("inf")
    for _ in range(turns):
        began = clock()
        stage.run()
        least = min(least, clock() - began)
        stage.tidy()
    return least / stage.events * 1e6


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--update-docs", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        folder = Path(name)
        # Not a list of them: a stage is tidied away when the next one is made.
        every = chain(reading(), stages(folder), writing(folder))
        rows = [f"| {stage.name} | {best(stage, options.turns):.3f} |" for stage in every]
    text = "\n".join([machine.sentence(), "", "| stage | CPU s per million events |", "|---|---|", *rows])
    print(text)
    if options.update_docs:
        pages.update(ROOT / "docs" / "performance.md", "profile", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
