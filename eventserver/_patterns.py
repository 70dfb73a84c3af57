"""Regular expressions of `matches(x, "...")` and of decoders: their run time is bounded, whatever text they meet.

google-re2 is used where it is installed (the optional extra `re2`): linear time, no limit on the text. Without it
Python's `re` is used, which backtracks: `(a+)+$` takes 2**n steps on n letters. So a pattern is measured first, and
refused where the steps on a text of `MAX_TEXT` characters could exceed about `MAX_TEXT` squared; and of a longer
text only the beginning is looked at.

In both cases the pattern is looked for anywhere in the text, `\\d \\w \\s \\b` are ASCII, and back-references,
lookaround, atomic groups and possessive repeats, which RE2 does not have, are refused.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from re import _constants as c  # type: ignore[attr-defined]  # private, and the only parser of `re`'s patterns
from re import _parser  # type: ignore[attr-defined]  # as above
from typing import Any, NamedTuple

#: The longest pattern, in characters.
MAX_PATTERN = 1000
#: The most groups of a pattern: reading and measuring it takes that many nested calls.
MAX_GROUPS = 100
#: How much of a text Python's `re` looks at, in characters.
MAX_TEXT = 4096
#: The most ways to match that short repeats and alternatives may multiply to; in patterns that take a number of steps
#: proportional to the text, and in those that take its square.
MAX_WAYS = 64
MAX_WAYS_SQUARE = 2
#: Repeats with fewer than this many choices multiply the ways; others count as long.
_LONG = 8

#: The alphabet of the analysis: ASCII, and one letter for all the rest.
_OTHER = 128
_ALL = frozenset(range(_OTHER + 1))
_NOTHING: frozenset[int] = frozenset()
_CATEGORIES = {
    c.CATEGORY_DIGIT: frozenset(map(ord, "0123456789")),
    c.CATEGORY_SPACE: frozenset(map(ord, " \t\n\r\f\v")),
    c.CATEGORY_WORD: frozenset(i for i in range(128) if chr(i).isalnum() or chr(i) == "_"),
}
_CATEGORIES |= {
    c.CATEGORY_NOT_DIGIT: _ALL - _CATEGORIES[c.CATEGORY_DIGIT],
    c.CATEGORY_NOT_SPACE: _ALL - _CATEGORIES[c.CATEGORY_SPACE],
    c.CATEGORY_NOT_WORD: _ALL - _CATEGORIES[c.CATEGORY_WORD],
}
_SINGLE = (c.LITERAL, c.NOT_LITERAL, c.ANY, c.IN)
_REPEATS = (c.MAX_REPEAT, c.MIN_REPEAT)
_REFUSED = {
    c.GROUPREF: "a back-reference",
    c.GROUPREF_EXISTS: "a conditional group",
    c.ASSERT: "lookahead or lookbehind",
    c.ASSERT_NOT: "lookahead or lookbehind",
    c.ATOMIC_GROUP: "an atomic group",
    c.POSSESSIVE_REPEAT: "a possessive repeat",
}
_INSTEAD = "simplify it, split it into several `matches`, or install google-re2"

Items = Sequence[tuple[Any, Any]]


class Groups(NamedTuple):
    """A pattern with named groups: their `names`, and `find`, which gives what they hold, by name.

    `find` gives None where the pattern is not in a text; a group that took no part is None. It raises `ValueError` for
    a text of more than `MAX_TEXT` characters where RE2 is not installed.
    """

    names: tuple[str, ...]
    find: Callable[[str], Mapping[str, str | None] | None]


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """A function that says whether a text holds the pattern. Raises `ValueError` with a sentence."""
    items = _checked(pattern)
    re2 = _re2()
    return _with_re2(re2, pattern) if re2 is not None else _with_re(pattern, items)


def compile_groups(pattern: str) -> Groups:
    """The pattern, to find what its named groups hold. Raises `ValueError` with a sentence."""
    items = _checked(pattern)
    re2 = _re2()
    if re2 is not None:
        compiled = _compile_re2(re2, pattern, never_capture=False)
    else:
        compiled = re.compile(pattern, re.ASCII)
        check_cost(items, bool(compiled.flags & re.MULTILINE))
    # By their place in the pattern: RE2 gives them by name.
    places = sorted((place - 1, name) for name, place in compiled.groupindex.items())
    search = compiled.search
    most = None if re2 is not None else MAX_TEXT

    def find(text: str) -> Mapping[str, str | None] | None:
        if most is not None and len(text) > most:
            raise ValueError(f"it has more than {most} characters, for which google-re2 has to be installed")
        found = search(text)
        if found is None:
            return None
        values = found.groups()
        return {name: values[place] for place, name in places}

    return Groups(tuple(name for _, name in places), find)


def _checked(pattern: str) -> Items:
    """The parts of a pattern that may be used. Raises `ValueError` with a sentence."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a pattern has at most {MAX_PATTERN} characters")
    if pattern.count("(") > MAX_GROUPS:
        raise ValueError(f"a pattern has at most {MAX_GROUPS} groups")
    if "\b" in pattern:
        raise ValueError('the pattern holds a backspace; write it as r"...", so that \\b is the edge of a word')
    items = _parse(pattern)
    for operator, _ in _walk(items):
        if operator in _REFUSED:
            raise ValueError(f"{_REFUSED[operator]} is not in the language of patterns")
    return items


def _re2() -> Any:
    try:
        re2 = importlib.import_module("re2")
    except ImportError:
        return None
    return re2 if hasattr(re2, "Options") else None  # Another package of that name has no options.


def _with_re2(re2: Any, pattern: str) -> Callable[[str], bool]:
    # Whether it is found is all that is asked.
    search = _compile_re2(re2, pattern, never_capture=True).search
    return lambda text: search(text) is not None


def _compile_re2(re2: Any, pattern: str, *, never_capture: bool) -> Any:
    try:
        settings = re2.Options()
        settings.log_errors = False  # Else RE2 writes its complaints to standard error.
        settings.never_capture = never_capture
        return re2.compile(pattern, settings)
    except Exception as error:
        raise ValueError(f"RE2 refuses the pattern: {error}") from None


def _with_re(pattern: str, items: Items) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    check_cost(items, bool(compiled.flags & re.MULTILINE))
    search = compiled.search
    return lambda text: search(text, 0, MAX_TEXT) is not None


def _parse(pattern: str) -> Items:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Possible nested set" and the like are Python's plans for `re`.
            re.compile(pattern, re.ASCII)
            parsed: Items = _parser.parse(pattern, re.ASCII)
            return parsed
    except (re.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"the pattern is not a regular expression: {error}") from None


def _walk(items: Items) -> Items:
    """All the items, those in groups, branches and repeats among them."""
    found: list[tuple[Any, Any]] = []
    waiting = [items]
    while waiting:
        for item in waiting.pop():
            found.append(item)
            waiting.extend(_inside(item))
    return found


def _inside(item: tuple[Any, Any]) -> list[Items]:
    operator, value = item
    if operator is c.BRANCH:
        return list(value[1])
    if operator is c.SUBPATTERN:
        return [value[3]]
    if operator in _REPEATS or operator is c.POSSESSIVE_REPEAT:
        return [value[2]]
    if operator is c.ATOMIC_GROUP:
        return [value]
    return []


def check_cost(items: Items, multiline: bool) -> None:
    """Raises `ValueError` for a pattern that could take longer than `MAX_TEXT` squared, by these rules.

    - What is repeated (other than a few times exactly) has a fixed shape: no repeat of varying length in it, and
      alternatives that begin differently.
    - The search itself, unless anchored by `^`, and each long repeat multiply the steps by the text's length. One
      that is followed by what it cannot match itself (`\\S+` and a space) has one way to end, and only adds to them.
    - Short repeats (`a?`) and alternatives that begin alike multiply the ways; `MAX_WAYS` and
      `MAX_WAYS_SQUARE` bound the product.
    """
    measure = _Measure()
    measure.sequence(_flat(items), _NOTHING, last=True)
    start: tuple[Any, Any] = items[0] if items else (None, None)
    anchored = start == (c.AT, c.AT_BEGINNING_STRING) or (start == (c.AT, c.AT_BEGINNING) and not multiline)
    power = measure.ambiguous + bool(measure.plain) + (not anchored)
    if power > 2:
        if start[0] in _REPEATS and start[1][0] == 0:
            raise ValueError("the pattern can take too long on some texts; leave the repeat at its start out")
        raise ValueError(f"the pattern can take too long on some texts, for it has too many open repeats; {_INSTEAD}")
    if measure.ways > (MAX_WAYS if power < 2 else MAX_WAYS_SQUARE):
        raise ValueError(f"the pattern can match in too many ways; {_INSTEAD}")


class _Measure:
    """Adds up what the items of a pattern cost."""

    def __init__(self) -> None:
        self.ambiguous = 0
        self.plain = 0
        self.ways = 1

    def sequence(self, items: Items, after: frozenset[int], last: bool) -> None:
        """Items one after the other; `after` is what can follow them, `last` that the match may end with them."""
        for index, (operator, value) in enumerate(items):
            following = items[index + 1 :]
            ends = last and not following
            follow = _first(following, after)
            if operator in _REPEATS:
                self.repeat(value, follow, ends or _only_end(following))
            elif operator is c.BRANCH:
                self.ways *= _alike(value[1])
                for branch in value[1]:
                    self.sequence(_flat(branch), follow, ends)

    def repeat(self, value: tuple[Any, Any, Items], follow: frozenset[int], ends: bool) -> None:
        low, high, body = value
        items = _flat(body)
        if high is not c.MAXREPEAT and int(high) <= 1:
            self.ways *= 2 if low != high else 1
            self.sequence(items, follow, ends)
            return
        inner = [v for op, v in _walk(items) if op in _REPEATS]
        if low == high and int(high) < _LONG and not any(op in _REPEATS for v in inner for op, _ in _walk(v[2])):
            # A few times exactly, as in `(\\d{1,3}\\.){3}`: the same as written out.
            self.sequence(items * int(high), follow, ends)
            return
        if any(v[0] != v[1] for v in inner):
            raise ValueError(f"the pattern has a repeat inside a repeat; {_INSTEAD}")
        if any(op is c.BRANCH and _alike(v[1]) > 1 for op, v in _walk(items)):
            raise ValueError(f"the pattern repeats alternatives that begin alike; {_INSTEAD}")
        if low == high:
            return
        # A repeat at the very end never has to give anything back: its first try is the match.
        if ends or not (_first(items, follow) & follow):
            self.plain += 1
        elif high is not c.MAXREPEAT and int(high) - int(low) < _LONG:
            self.ways *= int(high) - int(low) + 1
        else:
            self.ambiguous += 1


def _flat(items: Items) -> list[tuple[Any, Any]]:
    """The items with groups opened up."""
    flat: list[tuple[Any, Any]] = []
    for operator, value in items:
        flat.extend(_flat(value[3]) if operator is c.SUBPATTERN else [(operator, value)])
    return flat


def _only_end(items: Items) -> bool:
    return len(items) == 1 and items[0][0] is c.AT and items[0][1] in (c.AT_END, c.AT_END_STRING)


def _alike(branches: Sequence[Items]) -> int:
    """The most alternatives of a branch that one text could begin to match."""
    firsts = [_first(_flat(branch), _ALL) for branch in branches]
    return max(sum(letter in first for first in firsts) for letter in _ALL)


def _first(items: Items, after: frozenset[int]) -> frozenset[int]:
    """The letters that a match of the items can begin with; `after` joins in where they can be empty."""
    found = _NOTHING
    for operator, value in items:
        if operator in _SINGLE:
            return found | _letters(operator, value)
        if operator in _REPEATS:
            found |= _first(_flat(value[2]), _NOTHING)
            if value[0] > 0:
                return found
        elif operator is c.BRANCH:
            found |= frozenset().union(*(_first(_flat(branch), _ALL) for branch in value[1]))
            return found
    return found | after


def _letters(operator: Any, value: Any) -> frozenset[int]:
    """The letters that one item could match: never too few, both cases of each because of `(?i)`."""
    if operator is c.LITERAL:
        return _cases(frozenset({min(value, _OTHER)}))
    if operator is c.NOT_LITERAL:
        return _ALL - {value}
    if operator is c.RANGE:
        return _cases(frozenset(range(min(value[0], _OTHER), min(value[1], _OTHER) + 1)))
    if operator is c.CATEGORY:
        return _CATEGORIES.get(value, _ALL)
    if operator is c.IN and value[0][0] is c.NEGATE:
        return _ALL - _NOTHING.union(*(_surely(*part) for part in value[1:]))
    if operator is c.IN:
        return _NOTHING.union(*(_letters(*part) for part in value))
    return _ALL


def _surely(operator: Any, value: Any) -> frozenset[int]:
    """The letters that one part of a set matches for sure: never too many, so that `[^...]` is never too small."""
    if operator is c.LITERAL:
        return frozenset({value} if value < _OTHER else ())
    if operator is c.RANGE:
        return frozenset(range(min(value[0], _OTHER), min(value[1], _OTHER - 1) + 1))
    return _CATEGORIES.get(value, _NOTHING)


def _cases(letters: frozenset[int]) -> frozenset[int]:
    swapped = (chr(letter).swapcase() for letter in letters if letter < _OTHER)
    return letters | {ord(letter) for letter in swapped}
