"""Headers of the PROXY protocol as a proxy sends them."""

from __future__ import annotations

import ipaddress

from eventserver.listeners._proxy_header import SIGNATURE
from eventserver.listeners._proxy_tlvs import CRC32C, crc32c

Place = tuple[str, int]

STREAM, DATAGRAM = 1, 2


def tlv(kind: int, value: bytes) -> bytes:
    """One extension."""
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def v2_head(size: int, family: int, command: int = 0x21) -> bytes:
    """The first 16 bytes."""
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big")


def v2(source: Place, destination: Place, tlvs: bytes = b"", transport: int = STREAM) -> bytes:
    """A header of version 2 for a connection or (`transport`) a datagram over IP."""
    ends = [ipaddress.ip_address(host) for host, _port in (source, destination)]
    ports = b"".join(port.to_bytes(2, "big") for _host, port in (source, destination))
    rest = ends[0].packed + ends[1].packed + ports + tlvs
    return v2_head(len(rest), (1 if ends[0].version == 4 else 2) << 4 | transport) + rest


def v2_unix(source: bytes, destination: bytes) -> bytes:
    """A header of version 2 for a connection over a unix socket."""
    return v2_head(216, 0x31) + source.ljust(108, b"\0") + destination.ljust(108, b"\0")


def local(rest: bytes = b"") -> bytes:
    """A header with which a proxy speaks for itself."""
    return v2_head(len(rest), 0, 0x20) + rest


def tls_details(client: int, verify: int, *tlvs: bytes) -> bytes:
    """The extension about the client's TLS."""
    return tlv(0x20, bytes([client]) + verify.to_bytes(4, "big") + b"".join(tlvs))


def with_crc(source: Place, destination: Place, before: bytes = b"", after: bytes = b"") -> bytes:
    """A header with its checksum between other extensions."""
    header = v2(source, destination, before + tlv(CRC32C, bytes(4)) + after)
    at = len(header) - len(after) - 4
    return header[:at] + crc32c(header).to_bytes(4, "big") + header[at + 4 :]
