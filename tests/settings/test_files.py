"""Files of settings: reading, putting together, and what is wrong with them."""

from __future__ import annotations

import datetime as dt

import pytest

from eventserver.errors import SettingsError
from eventserver.options import Duration, Size
from eventserver.settings import load
from tests.settings.fakes import fake_registry

LISTENER = '[listener.a]\nendpoints = ["tcp:5140"]\n'
HANDLER = '[handler.h]\ntype = "file"\npath = "x"\n'


def test_every_problem_is_named_at_once_with_file_and_key(problems_of):
    """One wrong key hides no other, on any level."""
    problems = problems_of(
        """
memry = "1 MiB"
drain_timeout = 5
[listener.a]
endpoints = ["tcp:70000", "udp:5140"]
max_fram = "1 KiB"
ack = "delivered"
[listener.b]
endpoints = ["tcp:1"]
decoder = "txt"
max_frame = "1 KiG"
[handler.x]
type = "fil"
[handler.y]
type = "file"
listeners = ["aa"]
match = "a ="
retry = {max_attempts = 0, tries = 1}
steps = [{drop = "1 +"}, {dro = "x"}]
[admin]
endpoint = "tcp:9514"
"""
    )
    starts = [
        "site.toml: memry: unknown key; did you mean `memory`?",
        "site.toml: drain_timeout: 5 is not a duration",
        "site.toml: listener.a.endpoints: `tcp:70000` needs a port from 0 to 65535; right would be",
        "site.toml: listener.a.max_fram: unknown key; did you mean `max_frame`?",
        "site.toml: listener.a.ack: this type of listener cannot acknowledge",
        "site.toml: listener.b.decoder: no decoder is called `txt`; did you mean `text`?",
        "site.toml: listener.b.max_frame: '1 KiG' is not a size",
        "site.toml: handler.x.type: no handler is called `fil`; did you mean `file`?",
        "site.toml: handler.y.retry.tries: unknown key",
        "site.toml: handler.y.retry.max_attempts: 0 is too small; at least 1",
        "site.toml: handler.y.path: is missing",
        "site.toml: handler.y.listeners: no listener is called `aa`; did you mean `a`?",
        "site.toml: handler.y.match: ",
        "site.toml: handler.y.steps[0]: ",
        "site.toml: handler.y.steps[1]: `dro`: unknown key; did you mean `drop`?",
        "site.toml: admin.token: is missing",
    ]
    for start in starts:
        assert any(problem.startswith(start) for problem in problems), (start, problems)
    assert len(problems) == len(set(problems)) == len(starts)


def test_a_syntax_error_has_line_and_column(problems_of):
    assert problems_of("a = 1\nb = = 2\n") == ["site.toml: line 2, column 5: Invalid value"]


def test_a_file_that_is_not_there_and_one_that_is_not_utf8(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b'a = "\xe9"')
    with pytest.raises(SettingsError) as caught:
        load(["gone.toml", "latin.toml"], cwd=tmp_path, registry=fake_registry())
    assert caught.value.problems == [
        "gone.toml: cannot be read: No such file or directory",
        "latin.toml: is not UTF-8 text (byte 5); TOML files are",
    ]


def test_a_folder_is_read_in_the_order_of_names(settings_of):
    texts = {f"conf.d/{n}.toml": f'[listener.l{n}]\nendpoints = ["tcp:0"]\n' for n in (20, 40, 10, 30)}
    settings = settings_of({**texts, "conf.d/x.txt": "no toml", "conf.d/50.toml": HANDLER})
    assert list(settings.listeners) == ["l10", "l20", "l30", "l40"]
    assert list(settings.handlers) == ["h"]


def test_an_empty_folder_is_an_error(loading, tmp_path):
    (tmp_path / "conf.d").mkdir()
    assert loading.problems({"conf.d/readme": ""}) == ["conf.d: there is no file that ends in .toml in this folder"]


def test_one_name_in_two_files_is_an_error_that_names_both(problems_of):
    assert problems_of({"one.toml": LISTENER, "two.toml": LISTENER.replace("5140", "5141")}) == [
        "two.toml: listener.a: there is a listener of this name already in one.toml"
    ]


def test_top_level_keys_of_several_files_merge_and_duplicates_are_errors(settings_of, problems_of):
    settings = settings_of({"one.toml": 'memory = "1 MiB"', "two.toml": 'drain_timeout = "3 s"'})
    assert settings.server.memory == 1 << 20
    assert settings.server.drain_timeout == 3
    assert problems_of({"one.toml": 'memory = "1 MiB"', "two.toml": 'memory = "2 MiB"'}) == [
        "two.toml: memory: is set already in one.toml"
    ]
    assert problems_of({"one.toml": 'memory = "1 MiB"', "two.toml": 'drain_timeout = "3"'})[0].startswith("two.toml: ")


def test_a_table_twice_in_two_files_is_an_error(problems_of):
    admin = '[admin]\nendpoint = "unix:/run/a.sock"\n'
    assert problems_of({"one.toml": admin, "two.toml": admin}) == ["two.toml: admin: is set already in one.toml"]


@pytest.mark.parametrize("text", ["listener = 3", "[listener]\nendpoints = []", "admin = 1", "[handler]\nx = 1"])
def test_what_is_no_table_is_refused_with_the_right_form(problems_of, text):
    (problem,) = problems_of(text)
    assert "write `[" in problem


def test_variables_are_expanded_in_every_text(loading):
    loading.environ = {"PORT": "5140", "SITE": "hq"}
    settings = loading.settings('[listener.a]\nendpoints = ["tcp:${PORT}"]\nlabels = {site = "${SITE}-$${PORT}"}\n')
    assert settings.listeners["a"].parts[0].endpoints == ("tcp:5140",)
    assert settings.listeners["a"].labels == {"site": "hq-${PORT}"}


def test_a_variable_that_is_not_set_is_named_and_nothing_follows_from_it(problems_of):
    problems = problems_of('[admin]\nendpoint = "tcp:1"\ntoken = "${NOPE}"\n[listener.a]\nendpoints = ["tcp:${}"]')
    assert problems == [
        "site.toml: listener.a.endpoints[0]: `${}` names no environment variable; write `$${` for `${` itself",
        "site.toml: admin.token: the environment variable NOPE is not set",
    ]


def test_secrets_are_read_from_files_wherever_the_type_says_so(settings_of, tmp_path):
    (tmp_path / "token").write_text("s3cret\n")
    file = f"file:{tmp_path}/token"
    settings = settings_of(
        f"""
[handler.s]
type = "sender"
token = "{file}"
tokens = ["{file}", "plain"]
headers = {{a = "{file}"}}
login = {{user = "{file}", password = "{file}"}}
"""
    )
    sender = settings.handlers["s"].handler.options
    assert sender.token == "s3cret"
    assert sender.tokens == ["s3cret", "plain"]
    assert sender.headers == {"a": "s3cret"}
    assert (sender.login.user, sender.login.password) == (file, "s3cret")
    assert "s3cret" not in repr(settings)


def test_a_secret_file_that_cannot_be_read_is_an_error(problems_of):
    assert problems_of('[handler.s]\ntype = "sender"\ntoken = "file:/nowhere/token"\n') == [
        "site.toml: handler.s.token: cannot read the secret from /nowhere/token: No such file or directory"
    ]


def test_values_arrive_with_their_types(settings_of):
    settings = settings_of(
        """
[listener.a]
endpoints = ["tcp:5140"]
max_frame = "8 KiB"
idle_timeout = "5 min"
[handler.h]
type = "file"
path = "x"
read_from = 2026-05-01T12:00:00+02:00
retry = {max_attempts = 3}
batch = {max_bytes = "2 MiB"}
timeout = "1 s"
max_lag = "1 MiB"
"""
    )
    listener, handler = settings.listeners["a"], settings.handlers["h"]
    assert listener.parts[0].options.idle_timeout == Duration(300)
    assert listener.framer.options.max_frame == Size(8192)
    assert handler.read_from == dt.datetime(2026, 5, 1, 10, tzinfo=dt.UTC)
    assert (handler.retry.max_attempts, handler.retry.max_interval) == (3, 300)
    assert (handler.batch.max_bytes, handler.batch.max_events) == (2 << 20, 1000)
    assert (handler.timeout, handler.max_lag) == (1, 1 << 20)


@pytest.mark.parametrize("text", ['"yesterday"', '"2026-05-01"', "2026-05-01T12:00:00", "3"])
def test_a_wrong_place_to_begin_is_refused(problems_of, text):
    """A time needs its zone: local time would be another one after a move."""
    (problem,) = problems_of(f"{HANDLER}read_from = {text}")
    assert problem.startswith("site.toml: handler.h.read_from: ")
