"""The extensions of a version 2 PROXY header: what the proxy knows besides addresses, as plain data for batches.

haproxy's doc/proxy-protocol.txt, section 2.2: type (one byte), length (two bytes, network order), value.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

Tlvs = list[tuple[int, bytes]]

ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID = 0x01, 0x02, 0x03, 0x04, 0x05
SSL: Final = 0x20
NETNS: Final = 0x30
#: The types that applications may use as they like.
CUSTOM = range(0xE0, 0xF0)

_TEXTS: Mapping[int, str] = {ALPN: "alpn", AUTHORITY: "authority", UNIQUE_ID: "unique_id", NETNS: "netns"}
# 0x28, the client's certificate itself, is left out: the context of a batch is small.
_SSL_TEXTS: Mapping[int, str] = {
    0x21: "version",
    0x22: "cn",
    0x23: "cipher",
    0x24: "signature_algorithm",
    0x25: "key_algorithm",
    0x26: "group",
    0x27: "signature_scheme",
}
_SSL_HEAD = struct.Struct("!BI")  # struct pp2_tlv_ssl: client, verify
_CLIENT_CERT = 0x02 | 0x04  # PP2_CLIENT_CERT_CONN, PP2_CLIENT_CERT_SESS


def split(data: bytes) -> Tlvs | None:
    """The types and values; None if the data does not end where a value ends."""
    found: Tlvs = []
    at, end = 0, len(data)
    while at < end:
        start = at + 3
        if start > end:
            return None
        at = start + int.from_bytes(data[start - 2 : start], "big")
        if at > end:
            return None
        found.append((data[start - 3], data[start:at]))
    return found


def details(tlvs: Tlvs) -> dict[str, Any] | None:
    """What they say, by name; what no name is known for is left out. None if an inner part is malformed.

    Of a type that comes twice the last one counts. Texts are UTF-8, with U+FFFD where they are not; a `unique_id` that
    is no UTF-8 is `unique_id_hex`. The custom types stand under `custom`, by type, and type and value in hexadecimal.
    """
    found: dict[str, Any] = {}
    custom: dict[str, str] = {}
    for kind, value in tlvs:
        name = _TEXTS.get(kind)
        if kind == UNIQUE_ID:
            found.update(_unique_id(value))
        elif name is not None:
            found[name] = value.decode(errors="replace")
        elif kind == SSL:
            tls = _ssl(value)
            if tls is None:
                return None
            found["tls"] = tls
        elif kind in CUSTOM:
            custom[f"{kind:02x}"] = value.hex()
    return {**found, "custom": custom} if custom else found


def _unique_id(value: bytes) -> dict[str, str]:
    try:
        return {"unique_id": value.decode()}
    except UnicodeDecodeError:
        return {"unique_id_hex": value.hex()}


def _ssl(value: bytes) -> dict[str, Any] | None:
    """How the client spoke TLS with the proxy; `verified` is whether the proxy trusts a certificate that it showed."""
    if len(value) < _SSL_HEAD.size:
        return None
    client, verify = _SSL_HEAD.unpack_from(value)
    inner = split(value[_SSL_HEAD.size :])
    if inner is None:
        return None
    texts = {_SSL_TEXTS[kind]: text.decode(errors="replace") for kind, text in inner if kind in _SSL_TEXTS}
    # The verify result alone says nothing: it is 0 for success, whether or not a certificate was shown.
    return {"verified": bool(client & _CLIENT_CERT) and verify == 0, **texts}


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # CRC-32C, reflected (RFC 9260, appendix A)
        table.append(value)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """The CRC-32C of the data (RFC 9260, appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def crc_is_right(header: bytes, start: int, tlvs: Tlvs) -> bool:
    """Whether the checksum among the extensions is that of the whole header; also true where there is none.

    `start` is where the extensions begin in the header. The checksum's own bytes count as zeros.
    """
    at = start
    for kind, value in tlvs:
        if kind == CRC32C:
            if len(value) != 4:
                return False
            zeroed = header[: at + 3] + bytes(4) + header[at + 7 :]
            return crc32c(zeroed) == int.from_bytes(value, "big")
        at += 3 + len(value)
    return True
