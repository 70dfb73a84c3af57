"""`python -m tests.corpus DECODER[/NAME] ...`: what the decoder makes of these lines now, as `.jsonl` has it."""

from __future__ import annotations

import json
import sys

from tests.corpus import cases, line_of


def main(names: list[str]) -> int:
    """Print the events of these cases; returns the exit code."""
    if not names:
        sys.stderr.write(f"{__doc__}\n" + "".join(f"  {case}\n" for case in cases()))
        return 2
    for name in names:
        decoder, _, rest = name.partition("/")
        found = [case for case in cases(decoder) if case.name == rest or not rest]
        if not found:
            sys.stderr.write(f"there is no tests/corpus/{name}.txt or .hex\n" if rest else f"{decoder}: no cases\n")
            return 2
        for case in found:
            events = case.make_decoder().decode(case.batch())
            lines = [f"{json.dumps(line_of(event), ensure_ascii=False)}\n" for event in events]
            # UTF-8 as the files are, whatever the terminal has.
            sys.stdout.buffer.write("".join(lines).encode())
    return 0


sys.exit(main(sys.argv[1:]))
