"""The memory for what repeats."""

from __future__ import annotations

from eventserver.decoders._memo import Memo


class Reading:
    """A reader that writes down what it was asked to read; it cannot read `bad`."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def __call__(self, text: bytes) -> str | None:
        self.asked.append(text)
        return None if text == b"bad" else text.decode()


def test_a_text_is_read_once() -> None:
    read = Reading()
    memo = Memo(read)
    assert [memo[b"a"], memo[b"a"], memo[b"b"], memo[b"a"]] == ["a", "a", "b", "a"]
    assert read.asked == [b"a", b"b"]


def test_it_holds_two_generations_at_most() -> None:
    memo = Memo(Reading(), entries=10)
    for number in range(1000):
        assert memo[b"%d" % number] == str(number)
        assert memo.held <= 20


def test_what_comes_often_stays_however_much_comes_once() -> None:
    """There is no moment at which everything has to be read again."""
    read = Reading()
    memo = Memo(read, entries=10)
    for number in range(1000):
        assert memo[b"often"] == "often"
        assert memo[b"%d" % number] == str(number)
    assert read.asked.count(b"often") == 1


def test_what_does_not_come_any_more_is_forgotten() -> None:
    read = Reading()
    memo = Memo(read, entries=10)
    for text in (b"old", *(b"%d" % number for number in range(20)), b"old"):
        assert memo[text] == text.decode()
    assert read.asked.count(b"old") == 2


def test_what_cannot_be_read_and_what_is_long_is_not_remembered() -> None:
    """Neither takes the place of what is of use."""
    read = Reading()
    memo = Memo(read, longest=10)
    assert [memo[b"bad"], memo[b"bad"], memo[b"x" * 11], memo[b"x" * 11]] == [None, None, "x" * 11, "x" * 11]
    assert memo[b"x" * 10] == "x" * 10
    assert memo.held == 1
    assert len(read.asked) == 5


def test_it_can_be_emptied() -> None:
    read = Reading()
    memo = Memo(read, entries=2)
    for text in (b"a", b"b", b"c"):
        assert memo[text] == text.decode()
    memo.forget()
    assert memo.held == 0
    assert [memo[b"a"], memo[b"c"]] == ["a", "c"]
    assert read.asked == [b"a", b"b", b"c", b"a", b"c"]
