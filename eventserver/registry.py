"""A name to a component: entry points, ours and other people's by the same door.

A package offers components by entry points in six groups: `eventserver.framers`, `eventserver.decoders`,
`eventserver.encoders`, `eventserver.steps`, `eventserver.listeners` and `eventserver.handlers`. Each is loaded when it
is first used, so a broken one hurts only those who name it.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eventserver.errors import ComponentError
from eventserver.loading import describe, load_object

__all__ = ["KINDS", "ComponentError", "Registry", "Source", "load_object"]

#: The kinds of components, which are the last words of the entry-point groups.
KINDS = ("framers", "decoders", "encoders", "steps", "listeners", "handlers")

_PREFIX = "eventserver."


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
