"""The `eventserver` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from eventserver.cli import _printing, check, components, deadletters, journal, replay, run, schema, send

_EPILOG = """\
`twistd eventserver` is the same server with all that twistd offers (daemons, reactors, log files).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    # `run` has the options of the twistd plugin, which reads them itself, --help included.
    if words[:1] == ["run"]:
        return run.run(words[1:])
    _fill_streams()
    arguments = _parser().parse_args(words)
    try:
        code: int = arguments.function(arguments)
        _printing.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough (`| head`).
        _drop_output()
        return 1
    except _printing.CannotPrint as error:
        _drop_output()
        _printing.complain(words[0], str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _fill_streams() -> None:
    """Standard output and standard error that were closed take anything: else the next file opened has their number."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  # until the process ends


def _drop_output() -> None:
    """Python must not complain when it flushes at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
