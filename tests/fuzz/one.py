"""`python -m tests.fuzz.one TARGET [libFuzzer's options]`: one target under atheris.

With the target `all`, the first byte says which one gets the rest.
"""

from __future__ import annotations

import sys
import time

import atheris  # type: ignore[import-not-found,unused-ignore]

#: Seconds of the processor that some kilobytes may take.
LONGEST = 1.0


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, options = sys.argv[1], sys.argv[2:]
    # What is imported in here is watched: components are imported when their targets are made.
    with atheris.instrument_imports(include=["eventserver"]):
        from tests.fuzz.targets import targets

        known = targets()
    every = list(known.values())

    def run(data: bytes) -> None:
        begin = time.process_time()
        if name != "all":
            known[name](data)
        elif data:
            every[data[0] % len(every)](data[1:])
        # Of the processor's time: libFuzzer's own limit is by the clock, and this machine may be busy.
        assert time.process_time() - begin < LONGEST

    atheris.Setup([sys.argv[0], *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
