"""`eventserver components`: what listeners, handlers, decoders, ... there are, and who brings them."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from eventserver.cli import _printing
from eventserver.registry import KINDS, ComponentError, Registry


def add_to(commands: Any) -> None:
    """Make the subcommand known."""
    parser = commands.add_parser(
        "components",
        help="list the components that are installed",
        description="Lists every framer, decoder, encoder, step, listener and handler by the name that settings use, "
        "the package that brings it, and what it does. One that does not load is shown with the reason.",
    )
    parser.add_argument("kind", nargs="?", choices=KINDS, help="only this kind")
    parser.set_defaults(function=components)


def components(arguments: argparse.Namespace) -> int:
    """Print the list."""
    _printing.write(listing(Registry.from_entry_points(), arguments.kind))
    return 0


def listing(registry: Registry, only: str | None = None) -> str:
    """The components, one line each, below a line for each kind."""
    kinds = [kind for kind in KINDS if only in (None, kind)]
    rows = [(kind, name) for kind in kinds for name in registry.names(kind)]
    wide = max((len(name) for _, name in rows), default=0)
    brings = {row: ", ".join(source.distribution for source in registry.sources(*row)) for row in rows}
    far = max(map(len, brings.values()), default=0)
    lines = []
    for kind in kinds:
        lines.append(kind)
        mine = [row for row in rows if row[0] == kind]
        lines += [f"  {row[1]:{wide}}  {brings[row]:{far}}  {_describe(registry, *row)}".rstrip() for row in mine]
    return "\n".join(lines) + "\n"


def _describe(registry: Registry, kind: str, name: str) -> str:
    try:
        component = registry.get(kind, name)
    except ComponentError as error:
        return f"BROKEN: {error}"
    return first_line(component)


def first_line(component: Any) -> str:
    """The first line of what a component says about itself, without markup."""
    return (inspect.getdoc(component) or "").partition("\n")[0].replace("`", "")
