"""`python -m tests.corpus DECODER[/NAME] ...`: what the decoder makes of these lines now, as `.jsonl` has it."""

from __future__ import annotations

import json
import sys

from tests.corpus import Case, cases, line_of


def main(names: list[str]) -> int:
    """Print the events of these cases; returns the exit code."""
    if not names:
        sys.stderr.write(f"{__doc__}\n" + "".join(f"  {case}\n" for case in cases()))
        return 2
    for name in names:
        decoder, _, rest = name.partition("/")
        for case in [Case(decoder, rest)] if rest else cases(decoder):
            events = case.make_decoder().decode(case.batch())
            sys.stdout.writelines(f"{json.dumps(line_of(event), ensure_ascii=False)}\n" for event in events)
    return 0


sys.exit(main(sys.argv[1:]))
