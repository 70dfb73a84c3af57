"""RELP without I/O: frames, transaction numbers, commands, offers and what breaks a session."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver.listeners._relp import LAST_TXNR, Messages, Reply, Session, Step, acknowledge
from tests.relp_client import OFFERS, frame, syslog

LIMIT = 20
OPEN = frame(1, "open", OFFERS)


def session(max_data: int = 1000) -> Session:
    return Session(LIMIT, max_data, "eventserver,1")


def opened(max_data: int = 1000) -> Session:
    made = session(max_data)
    made.feed(OPEN)
    assert made.opened
    return made


def told(steps: list[Step]) -> list[tuple[int, bytes, bool] | Reply]:
    """The steps, message by message: number, data, and whether it was cut."""
    found: list[tuple[int, bytes, bool] | Reply] = []
    for step in steps:
        if isinstance(step, Messages):
            found += [(step.first + index, data, index in step.truncated) for index, data in enumerate(step.frames)]
        else:
            found.append(step)
    return found


def messages(steps: list[Step]) -> list[bytes]:
    return [data for step in steps if isinstance(step, Messages) for data in step.frames]


# Messages


def test_messages_of_one_read_are_one_step() -> None:
    [step] = opened().feed(syslog(2, b"one", b"two", b"three"))
    assert step == Messages(
        2, [b"one", b"two", b"three"], [], 2 * len(b"2 syslog 3 one\n") + len(b"4 syslog 5 three\n")
    )


def test_data_is_taken_as_it_is_sent() -> None:
    """LF inside and at the end is data: DATALEN says where a message ends."""
    data = [b"a\nb\n", b"\n", b"2 syslog 1 x", b"\0\xff"]
    assert messages(opened().feed(syslog(2, *data))) == data


def test_an_empty_message_is_a_message() -> None:
    """With and without the space that some write behind the length 0."""
    assert told(opened().feed(b"2 syslog 0\n3 syslog 0 \n4 syslog 1 x\n")) == [
        (2, b"", False),
        (3, b"", False),
        (4, b"x", False),
    ]


def test_a_message_over_the_limit_is_cut_and_the_next_survives() -> None:
    steps = opened().feed(syslog(2, b"x" * LIMIT, b"y" * (LIMIT + 1), b"z" * 999, b"last"))
    assert told(steps) == [
        (2, b"x" * LIMIT, False),
        (3, b"y" * LIMIT, True),
        (4, b"z" * LIMIT, True),
        (5, b"last", False),
    ]


def test_what_is_skipped_is_not_held() -> None:
    made = opened(max_data=10**8)
    made.feed(b"2 syslog 100000000 ")
    for _ in range(10):
        made.feed(b"x" * 65536)
        assert len(made._body) <= LIMIT
    assert made.partial


def test_numbers_begin_again_after_the_last() -> None:
    made = opened()
    made._expected = LAST_TXNR
    steps = made.feed(b"%d syslog 1 a\n1 syslog 1 b\n2 syslog 1 c\n" % LAST_TXNR)
    assert messages(steps) == [b"a", b"b", b"c"]
    assert made.fault is None
    assert acknowledge(LAST_TXNR, 3) == b"999999999 rsp 6 200 OK\n1 rsp 6 200 OK\n2 rsp 6 200 OK\n"


def test_a_hint_is_passed_over() -> None:
    steps = opened().feed(b"0 anything 3 abc\n0 serverclose 0\n2 syslog 1 x\n")
    assert told(steps) == [(2, b"x", False)]


# Sessions


@pytest.mark.parametrize(("theirs", "agreed"), [(0, 0), (1, 1), (2, 1), (99, 1)])
def test_the_lower_version_is_agreed_on(theirs: int, agreed: int) -> None:
    [answer] = session().feed(frame(1, "open", b"relp_version=%d\ncommands=syslog" % theirs))
    assert isinstance(answer, Reply)
    offers = b"200 OK\nrelp_version=%d\nrelp_software=eventserver,1\ncommands=syslog" % agreed
    assert answer.data == frame(1, "rsp", offers)


def test_what_librelp_says_is_understood() -> None:
    made = session()
    made.feed(b"1 open 86 relp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n")
    assert made.opened
    made = session()
    made.feed(frame(1, "open", b"commands=eventlog,syslog\nunknown\nrelp_version=1\n"))
    assert made.opened


@pytest.mark.parametrize(
    "offers",
    [
        b"",
        b"commands=syslog",
        b"relp_version=x\ncommands=syslog",
        b"relp_version=-1\ncommands=syslog",
        b"relp_version=0",
        b"relp_version=0\ncommands=eventlog",
        b"relp_version=0\ncommands=syslogger",
    ],
)
def test_offers_that_cannot_be_met_are_refused(offers: bytes) -> None:
    made = session()
    [answer] = made.feed(frame(1, "open", offers))
    assert isinstance(answer, Reply)
    assert b" 500 " in answer.data
    assert not answer.last
    assert not made.opened
    made.feed(frame(2, "open", OFFERS))
    assert made.opened


def test_a_second_open_is_refused_and_the_session_goes_on() -> None:
    steps = opened().feed(frame(2, "open", OFFERS) + syslog(3, b"x"))
    assert isinstance(steps[0], Reply)
    assert steps[0].data.startswith(b"2 rsp 31 500 ")
    assert told(steps)[1:] == [(3, b"x", False)]


@pytest.mark.parametrize("command", ["rsp", "starttls", "serverclose", "SYSLOG", "x" * 32])
def test_a_command_that_nobody_knows_is_refused(command: str) -> None:
    assert opened().feed(frame(2, command, b"x")) == [Reply(b"2 rsp 19 500 unknown command\n")]


def test_close_is_answered_and_ends_the_session() -> None:
    made = opened()
    steps = made.feed(syslog(2, b"x") + frame(3, "close") + syslog(4, b"y"))
    assert told(steps) == [(2, b"x", False), Reply(b"3 rsp 6 200 OK\n0 serverclose 0\n", last=True)]
    assert made.closed
    assert made.feed(b"more, and no RELP") == []
    assert made.fault is None


def test_a_session_that_was_never_opened_may_be_closed() -> None:
    assert session().feed(frame(1, "close"))[0].last  # type: ignore[union-attr]


# Faults


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<13>hello\n", "bad_header"),
        (b"GET / HTTP/1.1\r\n", "bad_header"),
        (b"\x16\x03\x01", "bad_header"),
        (b"\n", "bad_header"),
        (b" 2 syslog 1 x\n", "bad_header"),
        (b"-1 syslog 1 x\n", "bad_header"),
        (b"02 syslog 1 x\n", "bad_header"),
        (b"1234567890", "bad_header"),
        (b"2  syslog", "bad_header"),
        (b"2 sys1og 1 x\n", "bad_header"),
        (b"2 " + b"x" * 33, "bad_header"),
        (b"2 syslog -1", "bad_header"),
        (b"2 syslog +1", "bad_header"),
        (b"2 syslog 1e9", "bad_header"),
        (b"2 syslog 01 x", "bad_header"),
        (b"2 syslog 1234567890", "bad_header"),
        (b"2 syslog 1\n", "bad_header"),
        (b"2 syslog 1\tx\n", "bad_header"),
        (b"2 syslog 1 xy", "bad_trailer"),
        (b"2 syslog 0 x", "bad_trailer"),
        (b"2 syslog 1001 ", "too_long"),
        (b"2 syslog 999999999 ", "too_long"),
        (b"2 open 4097 ", "too_long"),
        (b"0 hint 4097 ", "too_long"),
        (b"1 syslog 1 x\n", "bad_txnr"),
        (b"3 syslog 1 x\n", "bad_txnr"),
        (b"3 close 0\n", "bad_txnr"),
    ],
)
def test_what_is_no_relp_breaks_the_session(data: bytes, reason: str) -> None:
    """At once, without waiting for more; what came before it stays, and nothing that follows is looked at."""
    made = opened()
    made._expected = 1
    assert messages(made.feed(b"1 syslog 2 ok\n" + data)) == [b"ok"]
    assert made.fault == reason
    assert not made.partial
    assert made.feed(syslog(2, b"x")) == []


@pytest.mark.parametrize("command", ["syslog", "rsp", "starttls"])
def test_nothing_but_open_and_close_comes_before_open(command: str) -> None:
    """A `syslog` is never answered 500: a client would forget the message."""
    made = session()
    assert made.feed(frame(1, command, b"x")) == []
    assert made.fault == "not_open"


# Properties

COMMANDS = st.one_of(
    st.tuples(st.just("syslog"), st.binary(max_size=LIMIT + 10)),
    st.tuples(st.sampled_from(["open", "hello", "close"]), st.sampled_from([b"", b"data", OFFERS])),
)


@given(st.lists(COMMANDS, max_size=12), st.lists(st.integers(1, 40), max_size=30), st.binary(max_size=30))
def test_no_split_of_the_stream_changes_what_is_told(
    commands: list[tuple[str, bytes]], sizes: list[int], rubbish: bytes
) -> None:
    stream = OPEN + b"".join(frame(number, *command) for number, command in enumerate(commands, 2)) + rubbish
    whole = session()
    expected = told(whole.feed(stream))
    split = session()
    found = []
    for size in [*sizes, *[7] * len(stream)]:
        found += told(split.feed(stream[:size]))
        stream = stream[size:]
    assert found == expected
    assert (split.fault, split.closed, split.partial) == (whole.fault, whole.closed, whole.partial)


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_no_bytes_raise_or_are_hoarded(chunks: list[bytes]) -> None:
    made = opened()
    for chunk in chunks:
        made.feed(chunk)
        assert len(made._header) <= 53
        assert len(made._body) <= 4096


def test_a_message_that_comes_byte_by_byte_costs_its_length() -> None:
    """Not its square: 256 KiB in single bytes within seconds."""
    made = Session(1 << 20, 1 << 20, "x")
    made.feed(OPEN)
    began = time.thread_time()
    for byte in frame(2, "syslog", b"x" * (1 << 18)):
        steps = made.feed(bytes((byte,)))
    assert len(messages(steps)[0]) == 1 << 18
    assert time.thread_time() - began < 5
