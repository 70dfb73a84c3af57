"""Compressed bodies: what comes out, and what is refused before it comes out."""

from __future__ import annotations

import contextlib
import gzip
import resource
import sys
import time
import zlib
from contextlib import nullcontext

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from eventserver import decompression
from eventserver.decompression import BadCompression, Decompressor, TooLarge, encodings

MIB = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return made.compress(data) + made.flush()


PACK = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw deflate": raw_deflate,
    "zstd": zstandard.compress,
}


def unpack(encoding: str, data: bytes, step: int = 1 << 16, max_bytes: int = 8 * MIB, ratio: float = 200) -> bytes:
    made = Decompressor(encoding.removeprefix("raw "), max_bytes, ratio)
    out = b"".join(made.feed(data[at : at + step]) for at in range(0, len(data), step))
    made.finish()
    return out


@given(st.sampled_from(sorted(PACK)), st.binary(max_size=2000), st.integers(1, 3000))
def test_what_was_packed_comes_out_however_it_is_cut(encoding: str, data: bytes, step: int) -> None:
    assert unpack(encoding, PACK[encoding](data), step) == data


@given(st.sampled_from(["gzip", "deflate", "zstd"]), st.binary(max_size=200), st.integers(1, 50))
def test_any_garbage_is_bad_or_comes_out(encoding: str, data: bytes, step: int) -> None:
    with contextlib.suppress(BadCompression, TooLarge):
        unpack(encoding, data, step)


@pytest.mark.parametrize("encoding", sorted(PACK))
def test_what_ends_too_early_is_bad(encoding: str) -> None:
    packed = PACK[encoding](b"hello, world" * 100)
    for end in range(1, len(packed)):
        with pytest.raises(BadCompression):
            unpack(encoding, packed[:end])


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("step", [1, 7, 1 << 16])
def test_members_are_one_stream(encoding: str, step: int) -> None:
    packed = b"".join(PACK[encoding](b"part %d," % number) for number in range(5))
    assert unpack(encoding, packed, step) == b"part 0,part 1,part 2,part 3,part 4,"


def test_what_stands_behind_the_end_is_bad() -> None:
    for encoding in ("deflate", "raw deflate", "gzip", "zstd"):
        with pytest.raises(BadCompression):
            unpack(encoding, PACK[encoding](b"x") + b"garbage")


@pytest.mark.parametrize("encoding", sorted(PACK))
def test_a_bomb_takes_no_memory(encoding: str) -> None:
    """100 MiB of zeros; the process grows by less than twice the limit."""
    packed = PACK[encoding](bytes(100 * MIB))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLarge) as caught:
        unpack(encoding, packed)
    assert caught.value.ratio
    with pytest.raises(TooLarge) as caught:
        unpack(encoding, packed, ratio=1e9)
    assert not caught.value.ratio
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown <= 2 * 8 * 1024, f"{grown} KiB"


def test_one_layer_only() -> None:
    """What is packed twice comes out packed once."""
    assert unpack("gzip", gzip.compress(gzip.compress(b"x"))) == gzip.compress(b"x")
    with pytest.raises(TooLarge):
        unpack("gzip", gzip.compress(gzip.compress(bytes(100 * MIB))))


def test_small_bodies_may_have_any_ratio() -> None:
    assert len(unpack("gzip", gzip.compress(bytes(60_000)), ratio=2)) == 60_000


def test_a_window_of_zstd_over_8_mib_is_bad() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=24)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(range(256)) * 200_000)
    with pytest.raises(BadCompression, match="memory"):
        unpack("zstd", packed, max_bytes=1 << 30)


def test_without_the_package_there_is_no_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    assert encodings() == ("gzip", "deflate", "zstd")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert decompression.encodings() == ("gzip", "deflate")
    with pytest.raises(LookupError):
        Decompressor("zstd", MIB)
    with pytest.raises(LookupError):
        Decompressor("br", MIB)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("step", [7, 1 << 16])
def test_members_are_counted(encoding: str, step: int) -> None:
    """However little they unpack to."""
    for member in (PACK[encoding](b"x"), PACK[encoding](b"")):
        for count in (10, 11):
            made = Decompressor(encoding, MIB, max_members=10)
            data = member * count
            with nullcontext() if count == 10 else pytest.raises(TooLarge, match="more than 10 members"):
                for start in range(0, len(data), step):
                    made.feed(data[start : start + step])
                made.finish()


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_empty_members_cost_what_they_are_long(encoding: str) -> None:
    """In one piece, as a message of the Forward protocol comes: copying the rest for each member would take minutes."""
    empty = PACK[encoding](b"")
    before = time.thread_time()
    assert unpack(encoding, empty * (4 * MIB // len(empty)), step=4 * MIB) == b""
    assert time.thread_time() - before < 5
