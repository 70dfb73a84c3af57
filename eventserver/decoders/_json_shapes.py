"""JSON objects that all have the same keys, as the lines of one program mostly do: decoded in half the time.

A shape is a class with an attribute for each key. Objects become instances of it, a dictionary is made only of those
that are wanted, and only of the keys that become fields; not even that where they are encoded and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

#: How deep the objects of a shape are nested, at most. For 60 keys msgspec takes 5 ms to make a decoder for these, and
#: 110 ms for twice that depth; for flat ones 0.2 ms.
DEPTH = 4
#: The most keys that a shape has, and the most shapes that are remembered, those that are being counted included.
_MOST_KEYS, _MOST_SHAPES = 64, 32
#: So many batches begin with the same keys before there is a shape for them, and before it is one for nested values:
#: about as many as are decoded in the time that it takes to make it.
_OFTEN, _VERY_OFTEN = 4, 50
#: For so many handlers' settings a shape remembers how to make fields.
_MOST_MAKERS = 16
#: The most batches for which a shape is not tried after one that did not have it.
_LONGEST_REST = 256

_COLUMN = """
def function(rows):
    return [r.{attribute} for r in rows]
"""
_FIELDS = """
def function(rows):
    return [{{{items}}} for r in rows]
"""
_COMPLETE = """
def function(rows):
    for r in rows:
        {targets} = {values}
    return rows
"""


class Shape:
    """Objects with exactly these keys. `flat` and `nested` are what msgspec accepts as a value.

    While it `is_flat`, none of the values is an object or an array. Raises `ValueError` for names that msgspec has no
    attributes for: with quotes, backslashes or control characters.
    """

    def __init__(self, names: Sequence[str], flat: Any, nested: Any) -> None:
        self._attributes = {name: f"a{number}" for number, name in enumerate(names)}
        self.is_flat = True
        self._value_type, self._nested = flat, nested
        self._decoders: dict[tuple[str, ...], msgspec.json.Decoder[Any]] = {}
        self._decoder(())
        self._columns: dict[str, Callable[[Sequence[Any]], list[Any]]] = {}
        self._makers: dict[tuple[int, bool], _Maker] = {}
        self._asked = self._misses = self._rest = 0

    def has_at_most(self, keys: int, plain: Mapping[str, Any]) -> bool:
        """Whether no object that is taken has more keys than that; `plain` as for `maker`."""
        return self.is_flat and len(self._attributes) + len(plain) <= keys

    def rows(self, block: bytes, maker: _Maker) -> list[Any] | None:
        """The objects of a block of lines, for a maker; None if one has other keys, or is wrong in another way."""
        self._asked += 1
        if self._rest:
            self._rest -= 1
            return None
        try:
            rows: list[Any] = self._decoder(maker.further).decode_lines(block)
        except ValueError:
            self._miss()
            return None
        self._misses = 0
        return rows

    def _miss(self) -> None:
        if self.is_flat and self._asked >= _VERY_OFTEN:
            # Perhaps one of the values is an object.
            self.is_flat, self._value_type = False, self._nested
            self._decoders.clear()
            return
        self._misses += 1
        self._rest = min(2**self._misses, _LONGEST_REST)

    def column(self, rows: Sequence[Any], name: str | None) -> list[Any] | None:
        """The value of that key in each row; None if these have no such key."""
        if name is None or name not in self._attributes:
            return None
        column = self._columns.get(name)
        if column is None:
            source = _COLUMN.format(attribute=self._attributes[name])
            column = self._columns[name] = _function(source, {})
        return column(rows)

    def columns(self, rows: Sequence[Any], names: Iterable[str]) -> dict[str, list[Any]] | None:
        """`column` for each of the names; None if one of them is no key."""
        found = {name: self.column(rows, name) for name in names}
        # The type checker does not see that no value is None then.
        return None if None in found.values() else found  # type: ignore[return-value]

    def maker(self, without: Sequence[str | None], plain: Mapping[str, Any], to_encode: bool) -> _Maker:
        """What makes fields of rows: with the entries `plain` besides or instead of their own, less some keys.

        They are dictionaries; if they are only `to_encode`, mostly the rows themselves, which msgspec encodes as it
        would these.
        """
        # There are as many as handlers have different settings: `plain` is an object of one of them.
        key = id(plain), to_encode
        kept = self._makers.get(key)
        if kept is None:
            if len(self._makers) >= _MOST_MAKERS:
                self._makers.clear()
            kept = self._makers[key] = self._made(without, plain, to_encode)
        return kept

    def _made(self, without: Sequence[str | None], plain: Mapping[str, Any], to_encode: bool) -> _Maker:
        further = tuple(name for name in plain if name not in self._attributes)
        # What is set under the name of a key that is taken out would be in its place when that is looked for.
        if to_encode and set(further).isdisjoint(without):
            try:
                return self._made_rows(without, plain, further)
            except ValueError:
                # As for keys.
                pass
        return self._made_dictionaries(without, plain)

    def _decoder(self, further: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
        """Makes rows with attributes for further keys, `p0` and so on, which they need not have."""
        decoder = self._decoders.get(further)
        if decoder is None:
            kind = self._value_type
            own = [(attribute, kind, msgspec.field(name=name)) for name, attribute in self._attributes.items()]
            others = [(f"p{n}", kind, msgspec.field(name=name, default=None)) for n, name in enumerate(further)]
            row = msgspec.defstruct("Row", [*own, *others], gc=False, forbid_unknown_fields=True)
            decoder = self._decoders[further] = msgspec.json.Decoder(row)
        return decoder

    def _made_dictionaries(self, without: Sequence[str | None], plain: Mapping[str, Any]) -> _Maker:
        sources = {name: f"r.{attribute}" for name, attribute in self._attributes.items() if name not in without}
        namespace: dict[str, Any] = {}
        for number, (name, value) in enumerate(plain.items()):
            namespace[f"p{number}"] = value
            sources[name] = f"p{number}"
        # Nothing of what peers send becomes a part of the source: not even a key.
        for number, name in enumerate(sources):
            namespace[f"k{number}"] = name
        items = ", ".join(f"k{number}: {source}" for number, source in enumerate(sources.values()))
        return _Maker(plain, (), _function(_FIELDS.format(items=items), namespace))

    def _made_rows(self, without: Sequence[str | None], plain: Mapping[str, Any], further: tuple[str, ...]) -> _Maker:
        # An object may have a further key all the same, in another line than the first: its value gives way.
        self._decoder(further)
        attributes = self._attributes | {name: f"p{number}" for number, name in enumerate(further)}
        values: dict[str, Any] = {name: msgspec.UNSET for name in without if name in self._attributes}
        values |= plain
        if not values:
            return _Maker(plain, further, list)
        targets = ", ".join(f"r.{attributes[name]}" for name in values)
        names = [f"v{number}" for number in range(len(values))]
        source = _COMPLETE.format(targets=targets, values=", ".join(names))
        return _Maker(plain, further, _function(source, dict(zip(names, values.values(), strict=True))))


class _Maker(NamedTuple):
    """Makes `fields` of rows that may have `further` keys. `plain` is kept since it is known by its id."""

    plain: Mapping[str, Any]
    further: tuple[str, ...]
    fields: Callable[[Sequence[Any]], Sequence[Any]]


def _function(source: str, namespace: dict[str, Any]) -> Callable[[Sequence[Any]], Any]:
    namespace["__builtins__"] = {}
    exec(compile(source, "<shape>", "exec"), namespace)
    function: Callable[[Sequence[Any]], Any] = namespace["function"]
    return function


class Shapes:
    """The shapes that come often. `flat` and `nested` as for `Shape`."""

    def __init__(self, flat: Any, nested: Any) -> None:
        self._types = flat, nested
        self._keys: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
        #: By keys: a shape, or how many batches have begun with these. What came longest ago is forgotten first.
        self._known: dict[tuple[str, ...], Shape | int] = {}

    def of_line(self, line: bytes) -> Shape | None:
        """The shape of the object that a line holds, if it comes often."""
        try:
            names = tuple(self._keys.decode(line))
        except (ValueError, RecursionError):
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
            return Shape(names, *self._types)
        except ValueError:
            return None
