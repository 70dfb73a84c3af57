"""`--listen` and `--handler`: a first word and pairs."""

from __future__ import annotations

import pytest


def test_a_listener_from_pairs_has_values_of_the_right_types(settings_of):
    settings = settings_of(
        listen=['tcp:5140 max_connections=7 max_frame="8 KiB" idle_timeout="5 s" labels.site=hq labels.n=1 name=doors']
    )
    doors = settings.listeners["doors"]
    assert doors.parts[0].options.max_connections == 7
    assert doors.parts[0].options.idle_timeout == 5
    assert doors.framer.options.max_frame == 8192
    assert doors.labels == {"site": "hq", "n": "1"}


def test_optional_endpoints_from_pairs(settings_of):
    (part,) = settings_of(listen=["tcp:1 optional_endpoints=tcp6:1,tcp6:2"]).listeners["tcp"].parts
    assert part.endpoints == ("tcp:1", "tcp6:1", "tcp6:2")
    assert part.options.optional_endpoints == ["tcp6:1", "tcp6:2"]


def test_a_handler_from_pairs(settings_of):
    settings = settings_of(
        handler=[
            """sender servers=a,b tls=true weight=2.5 token=t retry.max_attempts=3 timeout="2 s" low=1
               match="severity_code <= 3 and x == 'y'" steps='[{drop = "a == 1"}]' login.user=me"""
        ]
    )
    h = settings.handlers["sender"]
    sender = h.handler.options
    assert (sender.servers, sender.tls, sender.weight, sender.low) == (["a", "b"], True, 2.5, 1)
    assert (sender.token, sender.login.user) == ("t", "me")
    assert (h.retry.max_attempts, h.timeout, h.match) == (3, 2, "severity_code <= 3 and x == 'y'")
    assert h.steps == ({"drop": "a == 1"},)


def test_tables_and_lists_may_be_written_as_in_toml(settings_of):
    settings = settings_of(
        listen=["tcp:0 name=a", "tcp:0 name=b labels='{site = \"hq\"}'"],
        handler=['sender servers=\'["a,b"]\' retry="{max_attempts = 2}" listeners=a,b login=\'{user = "x"}\''],
    )
    h = settings.handlers["sender"]
    assert (h.handler.options.servers, h.retry.max_attempts, h.listeners) == (["a,b"], 2, ("a", "b"))
    assert settings.listeners["b"].labels == {"site": "hq"}


def test_a_text_that_looks_like_a_table_stays_a_text(settings_of):
    h = settings_of(handler=["file path={listener}.jsonl rotate=1"]).handlers["file"]
    assert (h.handler.options.path, h.handler.options.rotate) == ("{listener}.jsonl", True)


def test_commas_make_a_list_only_where_a_text_is_not_allowed(settings_of):
    settings = settings_of(handler=["sender either=a,b", 'sender either=\'["a", "b"]\''])
    assert settings.handlers["sender"].handler.options.either == "a,b"
    assert settings.handlers["sender2"].handler.options.either == ["a", "b"]


def test_names_are_the_kind_and_a_number(settings_of):
    settings = settings_of(
        '[listener.tcp]\nendpoints = ["tcp:1"]',
        listen=["tcp:2", "tcp:3", "udp:1"],
        handler=["console", "console", "console name=last"],
    )
    assert list(settings.listeners) == ["tcp", "tcp2", "tcp3", "udp"]
    assert list(settings.handlers) == ["console", "console2", "last"]


def test_a_module_and_function_is_a_python_handler(settings_of, tmp_path):
    (tmp_path / "my_handlers_3.py").write_text("def on_event(event): ...\n")
    settings = settings_of(handler=["my_handlers_3:on_event replies=true", "my_handlers_3:on_event listeners=lines"])
    assert list(settings.handlers) == ["python", "python2"]
    assert settings.handlers["python"].handler.options.replies is True


def test_backslashes_are_ordinary_characters(settings_of):
    r"""`\:\:1` and `^\S` arrive as they are written."""
    settings = settings_of(listen=[r"tcp6:5140:interface=\:\:1 multiline.start=^\S"])
    listener = settings.listeners["tcp6"]
    assert listener.parts[0].endpoints == (r"tcp6:5140:interface=\:\:1",)
    assert listener.multiline.options.start == r"^\S"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ({"listen": ["bogus"]}, "--listen bogus: endpoints: `bogus` begins with no scheme that is known; there are"),
        ({"listen": ["5140"]}, "--listen 5140: endpoints: `5140` has no scheme; right would be `tcp:5140`"),
        ({"listen": ["tcp:1 max_fram=1"]}, "--listen tcp:1: max_fram: unknown key; did you mean `max_frame`?"),
        ({"listen": ["tcp:1 max_connections=x"]}, "--listen tcp:1: max_connections: expected an integer, got a text"),
        ({"listen": ["tcp:1 framing"]}, "--listen tcp:1: `framing` is no pair; write key=value"),
        ({"listen": ["tcp:1 endpoints=tcp:2"]}, "--listen tcp:1: endpoints: the endpoint is the first word"),
        ({"listen": ["tcp:1 name='a b'"]}, "--listen tcp:1: a name has letters"),
        ({"listen": ['tcp:1 a="b']}, '--listen tcp:1 a="b: no closing quotation'),
        ({"listen": [""]}, "--listen : begins with the endpoint"),
        ({"handler": ["path=x"]}, "--handler path=x: begins with the type or module:function"),
        ({"handler": ["consol"]}, "--handler consol: type: no handler is called `consol`; did you mean `console`?"),
        ({"handler": ["console type=file"]}, "--handler console: type: is the first word already"),
        ({"handler": ["file path=a path=b"]}, "--handler file: path: is given twice"),
        (
            {"handler": ["sender login='{user = \"x\"}' login.user=2"]},
            "--handler sender: login.user: `login` has a value",
        ),
        ({"handler": ["file path=x match='1 +'"]}, "--handler file: match: "),
        ({"handler": ["file path=x steps=[1"]}, "--handler file: steps: `[1` is not written as in TOML: "),
        ({"handler": ["console name=x", "console name=x"]}, "--handler console: there is a handler of this name"),
        ({"handler": ["sender token=${NOPE}"]}, "--handler sender: token: the environment variable NOPE is not set"),
        ({"journal": "x max_byte=1"}, "--journal: max_byte: unknown key; did you mean `max_bytes`?"),
        ({"journal": "x retention=long"}, "--journal: retention: 'long' is not a duration"),
        ({"journal": ""}, "--journal : begins with the folder"),
        ({"admin": "tcp:9514"}, "--admin: token: is missing: "),
    ],
)
def test_what_is_wrong_names_the_option(problems_of, command, problem):
    found = problems_of(**command)
    assert found[0].startswith(problem), found
    assert len(found) == 1


def test_admin_from_the_command_line(settings_of, problems_of, loading):
    loading.environ = {"TOKEN": "0123456789abcdef" * 2}
    admin = settings_of(admin="tcp:9514 token=${TOKEN}").admin
    assert (admin.endpoint, admin.token) == ("tcp:9514", "0123456789abcdef" * 2)
    file = '[admin]\nendpoint = "unix:/run/a"'
    assert problems_of(file, admin="unix:/run/b") == ["--admin: is set already in site.toml"]


def test_an_option_that_takes_the_name_of_a_table_in_a_file_is_an_error(problems_of):
    (problem,) = problems_of('[listener.a]\nendpoints = ["tcp:1"]', listen=["tcp:2 name=a"])
    assert problem == "--listen tcp:2: there is a listener of this name already in site.toml"
