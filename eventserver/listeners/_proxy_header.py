"""The header of the PROXY protocol, versions 1 and 2: who a proxy speaks for. Sans-I/O.

The specification is haproxy's doc/proxy-protocol.txt; version 1 is its section 2.1, version 2 its section 2.2.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, NamedTuple

from eventserver.listeners import _proxy_tlvs
from eventserver.listeners._peers import inet_text

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V1 = b"PROXY "
_V1_LONGEST = 107
_HEAD = 16
# Leading zeros are not permitted; the specification's largest is 65535.
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")
#: The bytes of the two addresses, with ports, by the family that the upper half of the 14th byte names.
_SIZES = {0: 0, 1: 12, 2: 36, 3: 216}
_LOCAL, _PROXY = 0x20, 0x21


class Address(NamedTuple):
    """One end of the connection to the proxy: an IP address and port, or (`host` is None) the path of a unix socket."""

    host: str | None
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.host is None else inet_text(self.host, self.port)


class Header(NamedTuple):
    """A whole header. `size` is the number of its bytes.

    Without a `source` the proxy speaks for itself, or for somebody it cannot name. `details` is what the extensions
    say (see `_proxy_tlvs.details`).
    """

    size: int
    source: Address | None = None
    destination: Address | None = None
    details: dict[str, Any] = {}  # noqa: RUF012  # never changed


class Broken(NamedTuple):
    """Bytes that are no header, and never will be; `why` is a sentence about them."""

    why: str


def read_header(data: bytes | bytearray, max_header: int) -> Header | Broken | None:
    """The header that the bytes begin with; None where more of it has to come. Never raises.

    A header of version 2 may have `max_header` bytes.
    """
    start = data[: len(SIGNATURE)]
    if SIGNATURE.startswith(start):
        return _read_v2(data, max_header) if data else None
    if _V1.startswith(start[: len(_V1)]):
        return _read_v1(data)
    return Broken("it does not begin with a PROXY header")


def read_v2(data: bytes, max_header: int) -> Header | Broken | None:
    """As `read_header`, where version 1 is not allowed: before a datagram."""
    return _read_v2(data, max_header) if data.startswith(SIGNATURE) else Broken("it has no PROXY header of version 2")


# Version 1: a line for people


def _read_v1(data: bytes | bytearray) -> Header | Broken | None:
    end = data.find(b"\n", 0, _V1_LONGEST)
    if end < 0:
        return None if len(data) < _V1_LONGEST else Broken("the header of version 1 does not end within 107 bytes")
    if data[end - 1 : end] != b"\r":
        return Broken("the header of version 1 does not end with CR LF")
    words = data[len(_V1) : end - 1].split(b" ")
    if words[0] == b"UNKNOWN":
        return Header(end + 1)
    if len(words) == 5 and words[0] in (b"TCP4", b"TCP6"):
        version = 4 if words[0] == b"TCP4" else 6
        source, destination = _address(version, words[1], words[3]), _address(version, words[2], words[4])
        if source is not None and destination is not None:
            return Header(end + 1, source, destination)
    return Broken("the header of version 1 is malformed")


def _address(version: int, host: bytes | bytearray, port: bytes | bytearray) -> Address | None:
    if not _PORT.fullmatch(port) or int(port) > 65535 or b"%" in host:
        return None
    try:
        ip = ipaddress.ip_address(host.decode("ascii"))
    except ValueError:
        return None
    return Address(_plain(ip), int(port)) if ip.version == version else None


def _plain(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """The address as text; that of an IPv4 peer on an IPv6 socket is written as IPv4."""
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


# Version 2: bytes


def _read_v2(data: bytes | bytearray, max_header: int) -> Header | Broken | None:
    if len(data) < _HEAD:
        return None
    command, family, transport = data[12], data[13] >> 4, data[13] & 15
    size = _HEAD + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        return Broken(f"version and command are {command:#04x}, not 0x20 or 0x21")
    if size > max_header:
        return Broken(f"the header of {size} bytes is over max_header")
    if len(data) < size:
        return None
    if command == _LOCAL:
        # "must use the real connection endpoints and discard the protocol block including the family"
        return Header(size)
    if family not in _SIZES or transport > 2:
        return Broken(f"address family and transport are {data[13]:#04x}, which mean nothing")
    start = _HEAD + _SIZES[family]
    if start > size:
        return Broken("the header ends within its addresses")
    return _read_proxied(bytes(data[:size]), start, family, unspecified=not family or not transport)


def _read_proxied(header: bytes, start: int, family: int, *, unspecified: bool) -> Header | Broken:
    tlvs = _proxy_tlvs.split(header[start:])
    details = None if tlvs is None else _proxy_tlvs.details(tlvs)
    if tlvs is None or details is None:
        # Where nothing is specified, what follows is only to be skipped.
        return Header(len(header)) if unspecified else Broken("the extensions of the header are malformed")
    if not _proxy_tlvs.crc_is_right(header, start, tlvs):
        return Broken("the checksum of the header is wrong")
    if unspecified:
        return Header(len(header), None, None, details)
    source, destination = _addresses(header[_HEAD:start], family)
    return Header(len(header), source, destination, details)


def _addresses(block: bytes, family: int) -> tuple[Address, Address]:
    """Source and destination out of an address block of the right size."""
    if family == 3:
        return _path(block[:108]), _path(block[108:])
    size = 4 if family == 1 else 16
    make = ipaddress.IPv4Address if family == 1 else ipaddress.IPv6Address
    ports = block[2 * size :]
    return (
        Address(_plain(make(block[:size])), int.from_bytes(ports[:2], "big")),
        Address(_plain(make(block[size : 2 * size])), int.from_bytes(ports[2:], "big")),
    )


def _path(field: bytes) -> Address:
    """The path of a unix socket; "@" and the name for one without a file, as `ss` shows it (unix(7))."""
    name = field.rstrip(b"\0")
    text = b"@" + name[1:] if name.startswith(b"\0") else name.partition(b"\0")[0]
    return Address(None, 0, text.decode(errors="replace"))
