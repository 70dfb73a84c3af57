"""JSON objects that all have the same keys, as the lines of one program mostly do: decoded in half the time.

A shape is a class with an attribute for each key. Objects become instances of it, a dictionary is made only of those
that are wanted, and only of the keys that become fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

#: The most keys that a shape has, and the most shapes that are remembered, those that are being counted included.
_MOST_KEYS, _MOST_SHAPES = 64, 32
#: So many batches begin with the same keys before there is a shape for them: to make one takes as long as 50 batches.
_OFTEN = 50
#: For so many handlers' settings a shape remembers how to make fields.
_MOST_MAKERS = 16
#: The most batches for which a shape is not tried after one that did not have it.
_LONGEST_REST = 256

_FIELDS = """
def function(rows):
    return [{{{items}}} for r in rows]
"""


class Shape:
    """Objects with exactly these keys. `value_type` is what msgspec accepts as a value."""

    def __init__(self, names: Sequence[str], value_type: Any) -> None:
        self._attributes = {name: f"a{number}" for number, name in enumerate(names)}
        row = msgspec.defstruct(
            "Row",
            [(attribute, value_type, msgspec.field(name=name)) for name, attribute in self._attributes.items()],
            gc=False,
            forbid_unknown_fields=True,
        )
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row)
        self._makers: dict[int, tuple[Any, Callable[[Any], list[dict[str, Any]]]]] = {}
        self._misses = self._rest = 0

    def rows(self, block: bytes) -> list[Any] | None:
        """The objects of a block of lines; None if one has other keys, or is wrong in another way."""
        if self._rest:
            self._rest -= 1
            return None
        try:
            rows = self._decoder.decode_lines(block)
        except ValueError:
            self._misses += 1
            self._rest = min(2**self._misses, _LONGEST_REST)
            return None
        self._misses = 0
        return rows

    def column(self, rows: Iterable[Any], name: str | None) -> list[Any] | None:
        """The value of that key in each row; None if these have no such key."""
        attribute = self._attributes.get(name or "")
        return None if attribute is None else list(map(attrgetter(attribute), rows))

    def columns(self, rows: Iterable[Any], names: Iterable[str]) -> dict[str, list[Any]] | None:
        """`column` for each of the names; None if one of them is no key."""
        found = {name: self.column(rows, name) for name in names}
        # The type checker does not see that no value is None then.
        return None if None in found.values() else found  # type: ignore[return-value]

    def fields(self, rows: list[Any], without: Sequence[str | None], plain: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A dictionary of each row, with the entries `plain` besides or instead of its own, less some keys."""
        # There are as many as handlers have different settings: `plain` is an object of one of them.
        kept = self._makers.get(id(plain))
        if kept is None:
            if len(self._makers) >= _MOST_MAKERS:
                self._makers.clear()
            kept = self._makers[id(plain)] = (plain, self._maker(without, plain))
        return kept[1](rows)

    def _maker(self, without: Sequence[str | None], plain: Mapping[str, Any]) -> Callable[[Any], list[dict[str, Any]]]:
        sources = {name: f"r.{self._attributes[name]}" for name in self._attributes if name not in without}
        namespace: dict[str, Any] = {"__builtins__": {}}
        for number, (name, value) in enumerate(plain.items()):
            namespace[f"p{number}"] = value
            sources[name] = f"p{number}"
        # Nothing of what peers send becomes a part of the source: not even a key.
        for number, name in enumerate(sources):
            namespace[f"k{number}"] = name
        items = ", ".join(f"k{number}: {source}" for number, source in enumerate(sources.values()))
        exec(compile(_FIELDS.format(items=items), "<shape>", "exec"), namespace)
        function: Callable[[Any], list[dict[str, Any]]] = namespace["function"]
        return function


class Shapes:
    """The shapes that come often. `value_type` as for `Shape`."""

    def __init__(self, value_type: Any) -> None:
        self._value_type = value_type
        self._keys: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
        #: By keys: a shape, or how many batches have begun with these. What came longest ago is forgotten first.
        self._known: dict[tuple[str, ...], Shape | int] = {}

    def of_line(self, line: bytes) -> Shape | None:
        """The shape of the object that a line holds, if it comes often."""
        try:
            names = tuple(self._keys.decode(line))
        except ValueError:
            return None
        known = self._known.pop(names, 0)
        if isinstance(known, int):
            known += 1
            if known == _OFTEN:
                known = self._made(names) or known
        self._known[names] = known
        if len(self._known) > _MOST_SHAPES:
            del self._known[next(iter(self._known))]
        return known if isinstance(known, Shape) else None

    def _made(self, names: tuple[str, ...]) -> Shape | None:
        if len(names) > _MOST_KEYS:
            return None
        try:
            return Shape(names, self._value_type)
        except (TypeError, ValueError):
            # msgspec has no attributes for keys with quotes, backslashes or control characters in them.
            return None
