"""The `eventserver` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from eventserver.cli import check, components, deadletters, journal, replay, run, schema, send

_EPILOG = """\
`twistd eventserver` is the same server with all that twistd offers (daemons, reactors, log files).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    # `run` has the options of the twistd plugin, which reads them itself, --help included.
    if words[:1] == ["run"]:
        return run.run(words[1:])
    arguments = _parser().parse_args(words)
    try:
        code: int = arguments.function(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough (`| head`); Python must not complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eventserver",
        description="A network event server: lines and datagrams in, events to your Python handlers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"eventserver {version('eventserver')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    commands.add_parser("run", help="run the server in the foreground, as `twistd -n eventserver` (run --help)")
    for module in (check, send, deadletters, replay, journal, schema, components):
        module.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
