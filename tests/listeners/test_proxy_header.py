"""Headers of the PROXY protocol: bytes in, addresses out."""

from __future__ import annotations

import ipaddress
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser

from eventserver.listeners._proxy_header import SIGNATURE, Broken, Header, read_header, read_v2
from eventserver.listeners._proxy_tlvs import crc32c, split
from tests.listeners.proxyheaders import DATAGRAM, local, tls_details, tlv, v2, v2_head, v2_unix, with_crc

HERE, THERE = ("192.0.2.7", 51123), ("198.51.100.1", 6514)
HERE6, THERE6 = ("2001:db8::7", 51123), ("2001:db8::1", 6514)
LIMIT = 4096


def read(data: bytes) -> Header:
    header = read_header(data, LIMIT)
    assert isinstance(header, Header), header
    return header


def why(data: bytes) -> str:
    found = read_header(data, LIMIT)
    assert isinstance(found, Broken), found
    return found.why


# Version 1


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        ("TCP4 192.0.2.7 198.51.100.1 51123 6514", "192.0.2.7:51123", "198.51.100.1:6514"),
        ("TCP4 255.255.255.255 255.255.255.255 65535 65535", "255.255.255.255:65535", "255.255.255.255:65535"),
        ("TCP4 192.0.2.7 198.51.100.1 0 6514", "192.0.2.7:0", "198.51.100.1:6514"),
        ("TCP6 2001:db8::7 2001:DB8:0:0::1 51123 6514", "[2001:db8::7]:51123", "[2001:db8::1]:6514"),
        ("TCP6 ::ffff:192.0.2.7 ::1 51123 6514", "192.0.2.7:51123", "[::1]:6514"),
    ],
)
def test_version_1(line: str, source: str, destination: str) -> None:
    data = f"PROXY {line}\r\n".encode()
    header = read(data + b"GET / HTTP/1.1\r\n")
    assert header.size == len(data)
    assert (str(header.source), str(header.destination), header.details) == (source, destination, {})


@pytest.mark.parametrize("rest", ["", " ffff:f...f:ffff ffff:f...f:ffff 65535 65535", " \0whatever"])
def test_version_1_unknown_is_skipped_up_to_its_end(rest: str) -> None:
    data = f"PROXY UNKNOWN{rest}\r\n".encode()
    assert read(data + b"x\r\n") == Header(len(data))


@pytest.mark.parametrize(
    "line",
    [
        "TCP4 192.0.2.7 198.51.100.1 51123",
        "TCP4 192.0.2.7 198.51.100.1 51123 6514 1",
        "TCP4  192.0.2.7 198.51.100.1 51123 6514",
        "TCP4 192.0.2.7 198.51.100.1 51123 6514 ",
        "TCP4 192.0.2.07 198.51.100.1 51123 6514",
        "TCP4 192.0.2.256 198.51.100.1 51123 6514",
        "TCP4 192.0.2.7 198.51.100.1 051123 6514",
        "TCP4 192.0.2.7 198.51.100.1 65536 6514",
        "TCP4 192.0.2.7 198.51.100.1 -1 6514",
        "TCP4 192.0.2.7 198.51.100.1 \u0661 6514",
        "TCP4 2001:db8::7 2001:db8::1 51123 6514",
        "TCP6 192.0.2.7 198.51.100.1 51123 6514",
        "TCP6 fe80::1%eth0 2001:db8::1 51123 6514",
        "UDP4 192.0.2.7 198.51.100.1 51123 6514",
        "tcp4 192.0.2.7 198.51.100.1 51123 6514",
        "TCP4 é 198.51.100.1 51123 6514",
        "UNKNOWNS",
        "",
    ],
)
def test_version_1_that_is_malformed(line: str) -> None:
    assert why(f"PROXY {line}\r\n".encode()) == "the header of version 1 is malformed"


def test_version_1_ends_with_cr_lf_within_107_bytes() -> None:
    assert "CR LF" in why(b"PROXY TCP4 192.0.2.7 198.51.100.1 51123 6514\n")
    longest = b"PROXY UNKNOWN ".ljust(105, b"x")
    assert read(longest + b"\r\n").size == 107
    assert read_header(longest, LIMIT) is None
    assert read_header(longest + b"x", LIMIT) is None
    assert "107 bytes" in why(longest + b"x\r\n")
    assert "107 bytes" in why(longest + b"xx")


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"<34>1 x\n", b"\x16\x03\x01", b"PROXYTCP4", b"proxy ", b"\r\n\r\n\n"]
)
def test_what_is_no_header_is_known_at_once(data: bytes) -> None:
    assert "does not begin" in why(data)


# Version 2


@pytest.mark.parametrize("transport", [1, 2])
def test_version_2(transport: int) -> None:
    header = read(v2(HERE, THERE, transport=transport) + b"rest")
    assert (header.size, str(header.source), str(header.destination)) == (28, "192.0.2.7:51123", "198.51.100.1:6514")
    header = read(v2(HERE6, THERE6, transport=transport) + b"rest")
    assert (header.size, str(header.source), str(header.destination)) == (
        52,
        "[2001:db8::7]:51123",
        "[2001:db8::1]:6514",
    )
    header = read(v2(("::ffff:192.0.2.7", 1), THERE6))
    assert str(header.source) == "192.0.2.7:1"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"/run/app.sock", "unix:/run/app.sock"),
        (b"x" * 108, "unix:" + "x" * 108),
        (b"", "unix:"),
        (b"\0app", "unix:@app"),
        (b"/a\0junk", "unix:/a"),
        (b"/\xff", "unix:/\ufffd"),
    ],
)
def test_version_2_of_a_unix_socket(path: bytes, text: str) -> None:
    header = read(v2_unix(path, b"/run/es.sock"))
    assert (str(header.source), str(header.destination)) == (text, "unix:/run/es.sock")


def test_local_is_skipped_whatever_it_holds() -> None:
    """Health checks: "must use the real connection endpoints and discard the protocol block"."""
    for data in (local(), local(b"\xff" * 100), v2_head(3, 0xFF, 0x20) + b"abc"):
        assert read(data + b"x") == Header(len(data))


@pytest.mark.parametrize("family", [0x00, 0x01, 0x02, 0x10, 0x20, 0x30])
def test_unspecified_keeps_the_real_peer(family: int) -> None:
    """Whatever follows is skipped, whether or not it can be read."""
    addresses = {0: 0, 1: 12, 2: 36, 3: 216}[family >> 4]
    for rest in (bytes(addresses), bytes(addresses) + b"\xff"):
        assert read(v2_head(len(rest), family) + rest) == Header(16 + len(rest))
    header = read(v2_head(addresses + 6, family) + bytes(addresses) + tlv(2, b"sni"))
    assert (header.source, header.details) == (None, {"authority": "sni"})


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (v2_head(12, 0x11, 0x11), "version and command are 0x11"),
        (v2_head(12, 0x11, 0x22), "version and command are 0x22"),
        (v2_head(LIMIT, 0x11), "over max_header"),
        (v2_head(65535, 0x00, 0x20), "over max_header"),
        (v2_head(216, 0x41) + bytes(216), "0x41"),
        (v2_head(216, 0x13) + bytes(216), "0x13"),
        (v2_head(11, 0x11) + bytes(11), "within its addresses"),
        (v2_head(35, 0x21) + bytes(35), "within its addresses"),
        (v2_head(215, 0x31) + bytes(215), "within its addresses"),
        (v2(HERE, THERE, b"\x02"), "extensions"),
        (v2(HERE, THERE, b"\x02\0"), "extensions"),
        (v2(HERE, THERE, b"\x02\0\x02a"), "extensions"),
        (v2(HERE, THERE, tlv(0x20, b"\1\0\0\0")), "extensions"),
        (v2(HERE, THERE, tlv(0x20, b"\1\0\0\0\0\x22\0\2a")), "extensions"),
    ],
)
def test_version_2_that_is_broken(data: bytes, sentence: str) -> None:
    assert sentence in why(data)


def test_the_limit_is_for_the_whole_header() -> None:
    data = v2(HERE, THERE, tlv(4, bytes(100)))
    assert isinstance(read_header(data, len(data)), Header)
    assert isinstance(read_header(data, len(data) - 1), Broken)


def test_before_a_datagram_only_version_2_will_do() -> None:
    assert isinstance(read_v2(v2(HERE, THERE, transport=DATAGRAM), LIMIT), Header)
    assert isinstance(read_v2(b"PROXY UNKNOWN\r\n", LIMIT), Broken)
    assert isinstance(read_v2(SIGNATURE[:11], LIMIT), Broken)
    assert read_v2(SIGNATURE, LIMIT) is None


# Extensions


def test_extensions_have_names() -> None:
    tlvs = [
        tlv(0x01, b"h2"),
        tlv(0x02, "bücher.example".encode()),
        tlv(0x04, bytes(5)),
        tlv(0x05, b"7F000001:8F5E_0A00"),
        tls_details(7, 0, tlv(0x21, b"TLSv1.3"), tlv(0x22, b"web1"), tlv(0x23, b"TLS_AES_128_GCM_SHA256"),
                    tlv(0x24, b"SHA256"), tlv(0x25, b"RSA2048"), tlv(0x28, bytes(500)), tlv(0x99, b"?")),
        tlv(0x30, b"blue"),
        tlv(0xE0, b"\0\1"),
        tlv(0xEA, b"\1vpce-08d2bf15fac5001c9"),
        tlv(0x77, b"unknown"),
    ]  # fmt: skip
    assert read(v2(HERE, THERE, b"".join(tlvs))).details == {
        "alpn": "h2",
        "authority": "bücher.example",
        "unique_id": "7F000001:8F5E_0A00",
        "tls": {
            "verified": True,
            "version": "TLSv1.3",
            "cn": "web1",
            "cipher": "TLS_AES_128_GCM_SHA256",
            "signature_algorithm": "SHA256",
            "key_algorithm": "RSA2048",
        },
        "netns": "blue",
        "custom": {"e0": "0001", "ea": "01" + b"vpce-08d2bf15fac5001c9".hex()},
    }


@pytest.mark.parametrize(("client", "verify", "verified"), [(1, 0, False), (3, 0, True), (5, 0, True), (7, 18, False)])
def test_a_client_is_verified_only_by_a_certificate_that_is_good(client: int, verify: int, verified: bool) -> None:
    assert read(v2(HERE, THERE, tls_details(client, verify))).details == {"tls": {"verified": verified}}


def test_bytes_that_are_no_text() -> None:
    assert read(v2(HERE, THERE, tlv(5, b"\xff\0") + tlv(2, b"a\xff"))).details == {
        "unique_id_hex": "ff00",
        "authority": "a\ufffd",
    }


def test_crc32c_is_that_of_the_rfc() -> None:
    """RFC 3720, appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(("before", "after"), [(b"", b""), (tlv(2, b"sni"), tlv(5, b"id"))])
def test_a_checksum_is_checked(before: bytes, after: bytes) -> None:
    data = with_crc(HERE, THERE, before, after)
    assert str(read(data).source) == "192.0.2.7:51123"
    its_type = len(data) - len(after) - 7
    for at in set(range(16, len(data))) - {its_type}:
        broken = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert isinstance(read_header(broken, LIMIT), Broken | None), at
    assert "checksum" in why(v2(HERE, THERE, tlv(3, b"abc")))


# Whatever the bytes


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP6 ", SIGNATURE, SIGNATURE + b"\x21"]))
def test_any_bytes_are_a_header_or_none(data: bytes, start: bytes) -> None:
    found = read_header(start + data, LIMIT)
    if isinstance(found, Header):
        assert 0 < found.size <= len(start + data)
        assert read_header((start + data)[: found.size], LIMIT) == found


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=8))
def test_extensions_come_out_as_they_went_in(tlvs: list[tuple[int, bytes]]) -> None:
    assert split(b"".join(tlv(kind, value) for kind, value in tlvs)) == tlvs


addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
)


@given(addresses, st.integers(0, 65535), st.integers(0, 65535))
def test_twisted_reads_the_same(ends: tuple[Any, Any], source_port: int, destination_port: int) -> None:
    """A second opinion on both versions."""
    source, destination = (str(ends[0]), source_port), (str(ends[1]), destination_port)
    line = f"PROXY TCP{ends[0].version} {ends[0]} {ends[1]} {source_port} {destination_port}\r\n".encode()
    theirs: list[Any] = [V1Parser.parse(line[:-2]), V2Parser.parse(v2(source, destination))]
    for ours, other in zip([read(line), read(v2(source, destination))], theirs, strict=True):
        for mine, other_end in ((ours.source, other.source), (ours.destination, other.destination)):
            assert mine is not None
            ip: Any = ipaddress.ip_address(other_end.host)
            assert (mine.host, mine.port) == (str(getattr(ip, "ipv4_mapped", None) or ip), other_end.port)


@given(st.sampled_from([b"PROXY TCP4 192.0.2.7 198.51.100.1 51123 6514\r\n", v2(HERE6, THERE6, tlv(2, b"x" * 50))]))
def test_every_beginning_waits_for_more(data: bytes) -> None:
    for end in range(len(data)):
        assert read_header(data[:end], LIMIT) is None


def test_a_hostile_header_costs_little() -> None:
    """The largest header that may be, full of the smallest extensions, with a checksum."""
    tlvs = tlv(4, b"") * 21800
    began = time.thread_time()
    header = read_header(with_crc(HERE, THERE, tlvs), 65551)
    assert isinstance(header, Header)
    assert time.thread_time() - began < 1
