"""A name to a component: entry points, ours and other people's by the same door.

A package offers components by entry points in six groups: `eventserver.framers`, `eventserver.decoders`,
`eventserver.encoders`, `eventserver.steps`, `eventserver.listeners` and `eventserver.handlers`. Each is loaded when it
is first used, so a broken one hurts only those who name it.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventserver.errors import EventServerError

#: The kinds of components, which are the last words of the entry-point groups.
KINDS = ("framers", "decoders", "encoders", "steps", "listeners", "handlers")

_PREFIX = "eventserver."


class ComponentError(EventServerError):
    """A component cannot be had; the message says which one and why."""


@dataclass(frozen=True)
class Source:
    """Where a component comes from: the distribution that offers it, the object it names, and how it is loaded."""

    distribution: str
    value: str
    load: Callable[[], Any]


class Registry:
    """The components that are known by name, by kind (`"framers"`, or the whole group `"eventserver.framers"`)."""

    def __init__(self) -> None:
        self._sources: dict[str, dict[str, list[Source]]] = {kind: {} for kind in KINDS}
        self._loaded: dict[tuple[str, str], Any] = {}

    @classmethod
    def from_entry_points(cls) -> Registry:
        """All that the installed packages offer; nothing is imported yet."""
        registry = cls()
        for kind in KINDS:
            for point in importlib.metadata.entry_points(group=_PREFIX + kind):
                distribution = point.dist.name if point.dist is not None else "?"
                registry._offer(kind, point.name, Source(distribution, point.value, point.load))
        return registry

    def add(self, kind: str, name: str, component: Any, distribution: str = "this program") -> None:
        """Make a component known by hand, as tests and embedding programs do; it takes the place of a former one."""
        source = Source(distribution, _dotted(component), lambda: component)
        self._table(kind)[name] = [source]
        self._loaded.pop((_kind(kind), name), None)

    def _offer(self, kind: str, name: str, source: Source) -> None:
        offers = self._table(kind).setdefault(name, [])
        # One distribution may be seen twice (an editable install beside its folder on the path).
        if all((offer.distribution, offer.value) != (source.distribution, source.value) for offer in offers):
            offers.append(source)

    def names(self, kind: str) -> list[str]:
        """The names of one kind, sorted."""
        return sorted(self._table(kind))

    def sources(self, kind: str, name: str) -> list[Source]:
        """Who offers this name; more than one is an error for whoever uses it."""
        return self._table(kind).get(name, [])

    def get(self, kind: str, name: str) -> Any:
        """The component: a class, or a plain callable where a package offers one as decoder or handler.

        Raises `ComponentError` with a sentence for people: unknown, offered twice, or failing to import.
        """
        key = (_kind(kind), name)
        if key not in self._loaded:
            self._loaded[key] = self._load(kind, name)
        return self._loaded[key]

    def _load(self, kind: str, name: str) -> Any:
        offers = self.sources(kind, name)
        word = _kind(kind)[:-1]
        if not offers:
            raise ComponentError(f"no {word} is called `{name}`; {self._suggestion(kind, name)}")
        if len(offers) > 1:
            who = " and ".join(offer.distribution for offer in offers)
            raise ComponentError(f"{word} `{name}` is offered by {who}; uninstall one of them")
        try:
            return offers[0].load()
        except Exception as error:
            raise ComponentError(
                f"{word} `{name}` of {offers[0].distribution} does not load ({offers[0].value}): {describe(error)}"
            ) from error

    def _suggestion(self, kind: str, name: str) -> str:
        names = self.names(kind)
        near = difflib.get_close_matches(name, names, n=1)
        return f"did you mean `{near[0]}`?" if near else "there are " + ", ".join(f"`{n}`" for n in names)

    def _table(self, kind: str) -> dict[str, list[Source]]:
        return self._sources[_kind(kind)]


def _kind(kind: str) -> str:
    return kind.removeprefix(_PREFIX)


def _dotted(component: Any) -> str:
    module = getattr(component, "__module__", "?")
    return f"{module}:{getattr(component, '__qualname__', repr(component))}"


def describe(error: BaseException) -> str:
    """An exception as a part of a sentence: its class, and its text if it has one."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def load_object(reference: str, cwd: str | os.PathLike[str] | None = None) -> Callable[..., Any]:
    """The callable that `"module:function"` names; the module is also looked for in the current directory.

    The directory is on the import path during this import only, before the rest, so that a file `test.py` is the
    user's. Raises `ComponentError` if there is no such module, it fails to import, has no such attribute, or the
    attribute cannot be called.
    """
    module_name, _, attribute = reference.partition(":")
    if not attribute or not all(part.isidentifier() for part in f"{module_name}.{attribute}".split(".")):
        raise ComponentError(f"`{reference}` names no function; write `module:function`")
    folder = str(Path.cwd() if cwd is None else cwd)
    with _on_path(folder):
        found = _import(module_name, folder)
    for name in attribute.split("."):
        if not hasattr(found, name):
            near = difflib.get_close_matches(name, dir(found), n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise ComponentError(f"module `{module_name}` has no `{attribute}`{hint}")
        found = getattr(found, name)
    if not callable(found):
        raise ComponentError(f"`{reference}` is {type(found).__name__}, which cannot be called; name a function")
    return found  # type: ignore[no-any-return]  # whatever the user's module holds


@contextmanager
def _on_path(folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _import(module_name: str, folder: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise ComponentError(f"no module is called `{error.name}`, neither in {folder} nor installed") from error
        raise ComponentError(f"module `{module_name}` fails to import: {describe(error)}{_place(error)}") from error
    except (Exception, SystemExit) as error:
        raise ComponentError(f"module `{module_name}` fails to import: {describe(error)}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """The last line outside of the import system that the exception passed through."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name != __file__ and "importlib" not in name:
            found = f" ({name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found
