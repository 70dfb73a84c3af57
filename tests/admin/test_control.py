"""What the control API answers: the journal, its cursors, dead letters and replays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventserver.admin.control import Control, Reply
from eventserver.errors import PermanentFailure
from tests.replaying.history import Keeper, World


class Api:
    """The API of a server's middle, asked without HTTP."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.control = Control(world.journal, world.replays, now=world.now)

    def ask(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """Code and content, as a client would read them."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        result = self.control.answer(method, path, {key.rstrip("_"): value for key, value in query.items()}, data)
        found: list[Reply] = [result] if isinstance(result, Reply) else []
        if not isinstance(result, Reply):
            result.addCallback(found.append)
            self.world.run(1)
        [reply] = found
        return reply.code, json.loads(msgspec.json.encode(reply.content))

    def get(self, path: str, **query: str) -> Any:
        code, content = self.ask("GET", path, **query)
        assert code == 200, content
        return content

    def post(self, path: str, body: Any = None, code: int = 200) -> Any:
        found, content = self.ask("POST", path, body)
        assert found == code, content
        return content

    def refused(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, str]:
        code, content = self.ask(method, path, body, **query)
        assert code >= 400
        assert list(content) == ["error"]
        return code, content["error"]


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(World(tmp_path))


def with_dead(api: Api, number: int = 3) -> Keeper:
    """Some dead letters: `bad 1`, `bad 2`, ... a second apart."""
    handler = Keeper(bad={f"bad {n}": PermanentFailure(f"no {n}") for n in range(1, number + 1)})
    api.world.add(handler)
    for n in range(1, number + 1):
        api.world.put(f"bad {n}")
        api.world.clock.advance(1)
    return handler


def test_it_says_what_it_is(api: Api) -> None:
    api.world.add(Keeper())
    about = api.get("/v1")
    assert (about["api"], about["journal"], about["handlers"]) == ("v1", True, ["h"])


def test_without_a_journal_it_says_so() -> None:
    control = Control(None, None, now=lambda: None)  # type: ignore[arg-type, return-value]
    about = control.answer("GET", "/v1", {}, b"")
    assert isinstance(about, Reply)
    assert about.content["journal"] is False
    for method, path in (("GET", "/v1/journal"), ("GET", "/v1/deadletters"), ("POST", "/v1/replays")):
        answer = control.answer(method, path, {}, b"")
        assert isinstance(answer, Reply)
        assert (answer.code, answer.content["error"][:28]) == (409, "there is no journal on disk:")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v2/journal", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/replays/1/2/3", 404),
        ("GET", "/v1/deadletters/retry", 405),
        ("POST", "/v1/journal", 405),
        ("GET", "/v1/journal/cursors/drop", 405),
        ("POST", "/v1/deadletters/1", 405),
    ],
)
def test_what_is_not_there_and_what_may_not_be_done(api: Api, method: str, path: str, code: int) -> None:
    assert api.refused(method, path)[0] == code


def test_a_get_changes_nothing_whatever_it_says(api: Api) -> None:
    with_dead(api)
    for path in ("/v1/deadletters/drop", "/v1/deadletters/retry", "/v1/replays/1/cancel", "/v1/journal/cursors/rename"):
        assert api.ask("GET", path)[0] == 405
        assert api.ask("HEAD", path)[0] == 405
    assert len(api.world.journal.dead()) == 3


# The journal


def test_info_is_the_journals_own_and_positions(api: Api) -> None:
    api.world.add(Keeper())
    api.world.put("a", "b")
    info = api.get("/v1/journal")
    assert {key: info[key] for key in ("durable", "first", "committed", "head", "unwell")} == {
        "durable": True, "first": 0, "committed": 2, "head": 2, "unwell": None,
    }  # fmt: skip


def test_cursors_are_listed_with_their_lag(api: Api) -> None:
    api.world.add(Keeper())
    api.world.put("a", "b")
    api.world.journal.kept.cursors["gone"] = 0
    gone, h = api.get("/v1/journal/cursors")["cursors"]
    assert (gone["name"], gone["position"], gone["active"], gone["lag"]) == ("gone", 0, False, 2)
    assert (h["name"], h["position"], h["active"], h["lag"]) == ("h", 2, True, 0)
    assert gone["seen"].endswith("Z")


def test_a_cursor_is_renamed_and_dropped(api: Api) -> None:
    api.world.journal.kept.cursors["old"] = 1
    api.post("/v1/journal/cursors/rename", {"old": "old", "new": "new"})
    assert api.world.journal.kept.cursors == {"new": 1}
    api.post("/v1/journal/cursors/drop", {"name": "new"})
    assert api.world.journal.kept.cursors == {}


@pytest.mark.parametrize("name", ["", "a b", "n\nl", "h@replay-9", "-h", "\u00e9"])
def test_a_cursor_is_not_given_to_what_can_be_no_handler(api: Api, name: str) -> None:
    api.world.journal.kept.cursors["old"] = 1
    code, why = api.refused("POST", "/v1/journal/cursors/rename", {"old": "old", "new": name})
    assert (code, why) == (400, f"no handler can be called {name!r}")
    assert api.world.journal.kept.cursors == {"old": 1}


def test_what_cannot_be_done_to_a_cursor_is_said(api: Api) -> None:
    api.world.add(Keeper())
    assert api.refused("POST", "/v1/journal/cursors/drop", {"name": "h"}) == (409, "it is active")
    code, said = api.refused("POST", "/v1/journal/cursors/drop", {"name": "x"})
    assert (code, said) == (404, "there is no cursor 'x'; there are: h")
    assert api.refused("POST", "/v1/journal/cursors/rename", {"old": "h"})[0] == 400
    assert api.refused("POST", "/v1/journal/cursors/rename", b"[")[0] == 400


def test_frames_come_in_pages_as_they_were_journaled(api: Api) -> None:
    api.world.put("a", "b")
    api.world.put("c")
    page = api.get("/v1/journal/frames", from_="1")
    assert [(frame["position"], frame["frame"]) for frame in page["frames"]] == [(1, "b"), (2, "c")]
    assert page["frames"][0]["id"] == f"B{1:025}-1"
    assert page["next"] is None
    assert api.get("/v1/journal/frames", from_="0", to="1")["frames"] == [
        {
            "position": 0, "id": f"B{1:025}-0", "listener": "l", "decoder": "text", "received": "2026-01-01T00:00:00Z",
            "peer": "192.0.2.1:1", "frame": "a",
        },
    ]  # fmt: skip
    assert api.refused("GET", "/v1/journal/frames", from_="soon")[0] == 400


@pytest.mark.parametrize("context", [{}, {"path": "/" + "a" * 1000}])
def test_a_page_is_bounded_inside_a_batch_too(api: Api, context: dict[str, Any]) -> None:
    """A batch may be a request with 100,000 frames, of which much more is said than they have bytes."""
    lines = [str(number) for number in range(10_000)]
    api.world.put(*lines)
    batch = api.world.journal.entries[0].batch
    api.world.journal.entries[0].batch = msgspec.structs.replace(batch, context=context)
    api.world.put("last")
    found: list[str] = []
    at, pages = 0, 0
    while at is not None:
        page = api.get("/v1/journal/frames", from_=str(at), to="10001")
        assert len(json.dumps(page)) < 1_600_000
        assert [frame["position"] for frame in page["frames"]] == list(range(at, at + len(page["frames"])))
        found += [frame["frame"] for frame in page["frames"]]
        at, pages = page["next"], pages + 1
    assert found == [*lines, "last"]
    assert pages > 1
    assert len(api.get("/v1/journal/frames", from_="7", max_bytes="1")["frames"]) == 1


@pytest.mark.parametrize("path", ["/v1/journal/frames", "/v1/journal/verify"])
@pytest.mark.parametrize("number", [str(1 << 63), "1" + 19 * "0", "9" * 5000])
def test_a_position_of_too_many_digits_is_refused_with_the_range(api: Api, path: str, number: str) -> None:
    """It is a number, and no time that is written wrongly."""
    api.world.add(Keeper())
    api.world.put("a")
    for query in ({"from": number}, {"to": number}):
        [key] = query
        said = f"`{key}`: a position is a number from 0 to 9223372036854775807"
        assert api.refused("GET", path, **query) == (400, said)


@pytest.mark.parametrize("number", ["9" * 18, str((1 << 63) - 1)])
def test_a_position_far_behind_the_end_is_the_end(api: Api, number: str) -> None:
    api.world.add(Keeper())
    api.world.put("a", "b")
    assert [one["frame"] for one in api.get("/v1/journal/frames", to=number)["frames"]] == ["a", "b"]
    assert [one["frame"] for one in api.get("/v1/journal/frames", from_="0" * 30 + "1")["frames"]] == ["b"]
    assert api.get("/v1/journal/frames", from_=number) == {"frames": [], "next": None}


def test_verify_reads_all_and_names_what_is_missing(api: Api) -> None:
    for text in "abc":
        api.world.put(text, text)
    found = api.get("/v1/journal/verify")
    assert found == {"from": 0, "to": 6, "batches": 3, "frames": 6, "missing": [], "next": None}
    del api.world.journal.entries[1]
    assert api.get("/v1/journal/verify", from_="1")["missing"] == [[2, 4]]
    del api.world.journal.entries[1]
    assert api.get("/v1/journal/verify")["missing"] == [[2, 6]]


def test_verify_answers_in_parts_where_it_takes_long(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventserver.admin._control_journal.BUDGET", 0.0)
    api.world.put("a", "b")
    found = api.get("/v1/journal/verify")
    assert (found["frames"], found["next"]) == (0, 0)


# Dead letters


def test_dead_letters_are_listed_in_pages(api: Api) -> None:
    with_dead(api)
    first = api.get("/v1/deadletters", limit="2")
    assert [one["number"] for one in first["deadletters"]] == [1, 2]
    assert first["next"] == 2
    assert first["deadletters"][0]["message"] == "bad 1"
    assert first["deadletters"][0]["error"] == "PermanentFailure: no 1"
    rest = api.get("/v1/deadletters", limit="2", after="2")
    assert [one["number"] for one in rest["deadletters"]] == [3]
    assert rest["next"] is None


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"handler": "h"}, [1, 2, 3]),
        ({"handler": "other"}, []),
        ({"match": 'message != "bad 2"'}, [1, 3]),
        ({"since": "2026-01-01T00:00:01Z"}, [2, 3]),
        ({"since": "2026-01-01T00:00:01Z", "match": 'message == "bad 3"', "handler": "h"}, [3]),
    ],
)
def test_dead_letters_are_filtered(api: Api, query: dict[str, str], numbers: list[int]) -> None:
    with_dead(api)
    assert [one["number"] for one in api.get("/v1/deadletters", **query)["deadletters"]] == numbers


def test_a_search_that_takes_long_is_answered_in_parts(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventserver.admin._control_deadletters.MAX_LOOKED_AT", 4)
    monkeypatch.setattr("eventserver.admin._control_deadletters._PAGE", 2)
    with_dead(api, 9)
    after, found, asked = "0", [], 0
    while True:
        page = api.get("/v1/deadletters", match='message == "bad 9"', after=after)
        found += page["deadletters"]
        asked += 1
        if page["next"] is None:
            break
        after = str(page["next"])
    assert [one["number"] for one in found] == [9]
    assert asked == 3


def test_one_dead_letter_is_shown_whole(api: Api) -> None:
    with_dead(api)
    shown = api.get("/v1/deadletters/2")
    assert shown["event"]["message"] == "bad 2"
    assert shown["frame"] == "bad 2"
    assert "PermanentFailure: no 2" in shown["traceback"]
    assert api.refused("GET", "/v1/deadletters/99") == (404, "there is no dead letter 99")
    assert api.refused("GET", "/v1/deadletters/0")[0] == 404
    assert api.refused("GET", "/v1/deadletters/x")[0] == 400


def test_dead_letters_are_tried_again_by_number(api: Api) -> None:
    handler = with_dead(api)
    handler.bad = {}
    assert api.post("/v1/deadletters/retry", {"numbers": [2, 77]}) == {"retried": 1, "next": None, "waiting_for": []}
    assert handler.done == ["bad 2"]
    assert [number for number, _ in api.world.journal.dead()] == [1, 3]
    assert api.world.live["h"].counters.balanced()


def test_dead_letters_are_dropped_by_filter_and_everything_only_where_it_is_said(api: Api) -> None:
    with_dead(api)
    for wrong in ({}, {"handler": "h"}, {"numbers": [1], "all": True}, {"numbers": [1], "match": "true"}):
        assert api.refused("POST", "/v1/deadletters/drop", wrong)[0] == 400
    assert api.refused("POST", "/v1/deadletters/drop", {"all": True, "mach": "x"})[0] == 400
    assert len(api.world.journal.dead()) == 3
    assert api.post("/v1/deadletters/drop", {"all": True, "match": 'message == "bad 1"'})["dropped"] == 1
    assert api.post("/v1/deadletters/drop", {"all": True})["dropped"] == 2


def test_who_is_to_try_them_and_is_not_there_is_named(api: Api) -> None:
    with_dead(api)
    other = Api(api.world.restart())
    assert other.post("/v1/deadletters/retry", {"all": True})["waiting_for"] == ["h"]


@pytest.mark.parametrize(
    "query",
    [{"mach": "x"}, {"match": "=="}, {"since": "soon"}, {"limit": "-1"}, {"limit": "99999"}, {"after": "x"}],
)
def test_a_wrong_filter_is_refused_rather_than_left_out(api: Api, query: dict[str, str]) -> None:
    assert api.refused("GET", "/v1/deadletters", **query)[0] == 400


# Replays


def test_a_replay_is_started_shown_and_cancelled(api: Api) -> None:
    api.world.add(Keeper())
    api.world.put(*map(str, range(50)))
    started = api.post("/v1/replays", {"handler": "h", "from": "beginning", "rate": 10}, code=201)
    assert (started["id"], started["cursor"], started["state"]) == ("1", "h@replay-1", "running")
    api.world.run(1)
    shown = api.get("/v1/replays/1")
    assert (shown["from"], shown["to"]) == (0, 50)
    assert 5 <= shown["position"] <= 20
    assert shown["delivered"] == shown["position"]
    assert api.get("/v1/replays")["replays"] == [shown]
    assert api.post("/v1/replays/1/cancel")["state"] == "cancelled"
    assert api.refused("POST", "/v1/replays/1/cancel")[0] == 400
    assert api.refused("POST", "/v1/replays/2/cancel")[0] == 404
    assert api.refused("GET", "/v1/replays/2")[0] == 404


def test_a_dry_run_counts(api: Api) -> None:
    handler = Keeper()
    api.world.add(handler)
    api.world.put("a", "b", "c")
    handler.done.clear()
    counted = api.post("/v1/replays", {"handler": "h", "from": 0, "match": 'message > "a"', "dry_run": True})
    assert counted == {
        "dry_run": True, "from": 0, "to": 3, "next": 3, "complete": True, "frames": 3, "delivered": 2, "filtered": 1,
    }  # fmt: skip
    assert handler.done == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"handler": "h"},
        {"handler": "h", "from": None},
        {"handler": "h", "from": "soon"},
        {"handler": "nobody", "from": 0},
        {"handler": "h", "from": 0, "mach": "x"},
        {"handler": "h", "from": 0, "rate": -1},
        {"handler": "h", "from": 1.5},
        {"handler": "h", "from": 1 << 63},
        {"handler": "h", "from": 0, "to": 10**30},
        [],
    ],
)
def test_what_is_wrong_with_a_replay_is_said(api: Api, body: Any) -> None:
    api.world.add(Keeper())
    code, said = api.refused("POST", "/v1/replays", body)
    assert code == 400
    assert said


def test_a_replay_that_cannot_be_written_down_is_not_started(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.world.add(Keeper())
    api.world.put("a")

    def full(self: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eventserver.replaying.records.ReplayFile.write", full)
    code, said = api.refused("POST", "/v1/replays", {"handler": "h", "from": 0})
    assert (code, said) == (503, "the disk says: No space left on device")
    assert api.get("/v1/replays") == {"replays": []}
