"""What operators and functions of expressions do with values of any kind. Nothing here raises.

An operation that its operands do not allow is false (comparisons) or None (all others).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
import operator
import re
from collections.abc import Callable, Container
from functools import lru_cache
from typing import Any, TypeAlias

#: The longest text that `+` makes, in characters.
MAX_TEXT = 65536
#: Whole numbers beyond this are None: arithmetic stays cheap, and every JSON reader and database can hold the result.
MAX_INT = 2**63

#: The longest text that can be an address with a port, an IPv6 zone among it, with room to spare.
MAX_PEER = 100

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


@lru_cache(maxsize=1024)
def parse_time(text: str) -> dt.datetime | None:
    """The time that an RFC 3339 text (section 5.6, a space for the T allowed) names, or None."""
    if len(text) > 40 or _RFC3339.fullmatch(text) is None:
        return None
    try:
        return dt.datetime.fromisoformat(text.upper())
    except ValueError:
        return None


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """The two values, with a text beside a time read as a time where it can be."""
    if isinstance(left, dt.datetime) and isinstance(right, str):
        return left, parse_time(right)
    if isinstance(right, dt.datetime) and isinstance(left, str):
        return parse_time(left), right
    return left, right


def equal(left: Any, right: Any) -> bool:
    """`==`, where a time also equals the RFC 3339 text that names it. As in Python, `1 == 1.0 == True`."""
    try:
        left, right = _alike(left, right)
        return bool(left == right)
    except Exception:
        return False


def _ordering(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], bool]:
    def ordered(left: Any, right: Any) -> bool:
        if left is None or right is None:
            return False
        try:
            left, right = _alike(left, right)
            return bool(compare(left, right))
        except Exception:  # TypeError: unlike types. Anything else: an object with comparisons of its own.
            return False

    return ordered


less = _ordering(operator.lt)
less_or_equal = _ordering(operator.le)
greater = _ordering(operator.gt)
greater_or_equal = _ordering(operator.ge)


def contains(member: Any, container: Any) -> bool:
    """`member in container`: a text in a text, a value in a list, a key in a table; else false."""
    try:
        if isinstance(container, str):
            return isinstance(member, str) and member in container
        if isinstance(container, (list, tuple)):
            return any(equal(member, value) for value in container)
        return isinstance(container, dict) and member in container
    except Exception:  # A key that cannot be hashed.
        return False


def among(member: Any, literals: Container[Any]) -> bool:
    """`member in literals`, for a set of literals."""
    try:
        return member in literals
    except Exception:
        return False


def item(container: Any, key: str | int) -> Any:
    """`container[key]`: the entry of a table, or the element of a list; else None."""
    if isinstance(container, dict):
        return container.get(key)
    if isinstance(container, (list, tuple)) and isinstance(key, int) and -len(container) <= key < len(container):
        return container[key]
    return None


def _bounded(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if -MAX_INT <= value < MAX_INT else None


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and -MAX_INT <= value < MAX_INT)


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def computed(left: Any, right: Any) -> Any:
        if not (_is_number(left) and _is_number(right)):
            return None
        try:
            return _bounded(compute(left, right))
        except Exception:  # Division by zero; a subclass with arithmetic of its own.
            return None

    return computed


_add_numbers = _arithmetic(operator.add)
_subtract_numbers = _arithmetic(operator.sub)
multiply = _arithmetic(operator.mul)
divide = _arithmetic(operator.truediv)


def add(left: Any, right: Any) -> Any:
    """`+` of two numbers, of two texts (up to `MAX_TEXT` characters), or of a time and a number of seconds."""
    if isinstance(left, str) and isinstance(right, str):
        return left + right if len(left) + len(right) <= MAX_TEXT else None
    if isinstance(left, dt.datetime):
        return _shift(left, right)
    return _shift(right, left) if isinstance(right, dt.datetime) else _add_numbers(left, right)


def subtract(left: Any, right: Any) -> Any:
    """`-` of two numbers; of two times, in seconds; of a time and a number of seconds."""
    if not isinstance(left, dt.datetime):
        return _subtract_numbers(left, right)
    if not isinstance(right, dt.datetime):
        return _shift(left, negate(right))
    try:
        return (left - right).total_seconds()
    except Exception:  # A time without a zone beside one with.
        return None


def _shift(time: dt.datetime, seconds: Any) -> dt.datetime | None:
    if not _is_number(seconds):
        return None
    try:
        return time + dt.timedelta(seconds=seconds)
    except Exception:  # Beyond the years 1 to 9999, or not a number.
        return None


def negate(value: Any) -> Any:
    """`-value` of a number; else None."""
    return multiply(value, -1)


def lower(value: Any) -> str | None:
    """`lower(x)`: the text in lower case; None for anything else."""
    return value.lower() if isinstance(value, str) else None


def starts(value: Any, prefix: Any) -> bool:
    """`startswith(x, "..")`: false unless both are texts."""
    return isinstance(value, str) and isinstance(prefix, str) and value.startswith(prefix)


def ends(value: Any, suffix: Any) -> bool:
    """`endswith(x, "..")`: false unless both are texts."""
    return isinstance(value, str) and isinstance(suffix, str) and value.endswith(suffix)


def address_of(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in `"192.0.2.7:51123"`, `"[2001:db8::7]:51123"`, or alone; None for anything else.

    An IPv4 address that is mapped into IPv6 (RFC 4291, section 2.5.5.2) is the IPv4 address.
    """
    if peer.startswith("["):
        peer = peer[1:].partition("]")[0]
    elif peer.count(":") == 1:
        peer = peer.partition(":")[0]
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def within(networks: tuple[Network, ...]) -> Callable[[Any], bool]:
    """`cidr(x, "..")`: whether a peer or an address is in one of the networks; its port does not matter."""

    @lru_cache(maxsize=4096)
    def decide(peer: str) -> bool:
        address = address_of(peer)
        return address is not None and any(address in network for network in networks)

    return lambda value: isinstance(value, str) and len(value) <= MAX_PEER and decide(value)


def found(search: Callable[[str], bool]) -> Callable[[Any], bool]:
    """`matches(x, "..")`: whether a text holds a pattern; false for anything that is no text."""

    def matched(value: Any) -> bool:
        try:
            return isinstance(value, str) and search(value)
        except Exception:  # A lone surrogate, which RE2 cannot encode.
            return False

    return matched
