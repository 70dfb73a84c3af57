"""`eventserver check`, `components`, `schema`, `--help`, `--version`."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from eventserver.cli.components import listing
from eventserver.cli.main import main
from eventserver.cli.reference import main as reference_main
from eventserver.cli.reference import reference, toml
from eventserver.cli.schema import event_schema, settings_schema
from eventserver.event import Event
from eventserver.options import Size
from eventserver.registry import Registry
from tests.settings.fakes import fake_registry


def test_check_names_every_error_and_exits_with_1(tmp_path, capsys):
    file = tmp_path / "bad.toml"
    file.write_text('memry = 1\n[listener.a]\nendpoints = ["tcp:x"]\n')
    assert main(["check", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{file}: memry: unknown key; did you mean `memory`?",
        f"{file}: listener.a.endpoints: `tcp:x` needs a port from 0 to 65535; "
        "right would be `tcp:5140:interface=127.0.0.1`",
    ]


def test_check_says_what_right_settings_describe(tmp_path, capsys):
    file = tmp_path / "good.toml"
    file.write_text('[listener.a]\nendpoints = ["tcp:0", "udp:0"]\ndecoder = "syslog"\n')
    assert main(["check", str(file), "--handler", "null listeners=a"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "listener a: tcp:0 udp:0 (framing auto, decoder syslog)",
        "handler null: null (from a)",
        "the settings are right",
    ]


def test_check_without_anything_to_check_is_wrong_usage(capsys):
    assert main(["check"]) == 2
    assert "name a FILE" in capsys.readouterr().err


def test_help_lists_what_is_built_and_nothing_else(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    assert exit.value.code == 0
    commands = re.findall(r"^    (\w+)", capsys.readouterr().out, re.MULTILINE)
    assert commands == ["run", "check", "send", "deadletters", "replay", "journal", "schema", "components"]


def test_version(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert exit.value.code == 0
    assert re.fullmatch(r"eventserver \d+\.\d+\S*\n", capsys.readouterr().out)


def test_components_are_listed_with_package_and_first_line(capsys):
    assert main(["components"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^framers\n  auto +eventserver +\w+", out, re.MULTILINE)
    assert "BROKEN" not in out
    assert main(["components", "steps"]) == 0
    assert capsys.readouterr().out.startswith("steps\n  drop  eventserver  ")


def test_a_broken_component_is_listed_with_its_reason():
    registry = Registry()
    registry.add("handlers", "good", Size, "theirs")

    def fail() -> Any:
        raise ImportError("no driver")

    from eventserver.registry import Source

    registry._offer("handlers", "bad", Source("theirs", "bad:Handler", fail))
    lines = listing(registry, "handlers").splitlines()
    assert lines[1] == (
        "  bad   theirs  BROKEN: handler `bad` of theirs does not load (bad:Handler): ImportError: no driver"
    )
    assert lines[2].startswith("  good  theirs  A number of bytes")


def check(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value meets a schema: as much of JSON Schema as ours use."""
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "anyOf" in schema and not any(check(value, choice) for choice in schema["anyOf"]):
        return False
    if "not" in schema and check(value, schema["not"]):
        return False
    for rule in schema.get("allOf", ()):
        if check(value, rule["if"]) and not check(value, rule["then"]):
            return False
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    wanted = schema.get("type")
    if wanted is not None and not any(
        isinstance(value, types[t]) and not (t in ("integer", "number") and isinstance(value, bool))
        for t in ([wanted] if isinstance(wanted, str) else wanted)
    ):
        return False
    if isinstance(value, str):
        return "pattern" not in schema or re.search(schema["pattern"], value) is not None
    if isinstance(value, int):
        return value >= schema.get("minimum", value) and value <= schema.get("maximum", value)
    if isinstance(value, list):
        return all(check(item, schema.get("items", {})) for item in value)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        rest = schema.get("additionalProperties", True)
        if any(key not in value for key in schema.get("required", ())):
            return False
        return all(
            check(inner, known[key]) if key in known else rest is True or (rest is not False and check(inner, rest))
            for key, inner in value.items()
        )
    return True


@pytest.mark.parametrize(
    ("document", "good"),
    [
        ({}, True),
        ({"memory": "64 MiB", "drain_timeout": "10 s"}, True),
        ({"memory": "64 MB/s"}, False),
        ({"memry": "64 MiB"}, False),
        ({"listener": {"a": {"endpoints": ["tcp:1"], "delimiter": ";", "max_connections": 3}}}, True),
        ({"listener": {"a": {"endpoints": ["tcp:1"], "max_connections": 0}}}, False),
        ({"listener": {"a": {"endpoints": ["tcp:1"], "time_zone": "UTC", "labels": {"a": "b"}}}}, True),
        ({"listener": {"a": {"endpoints": ["tcp:1"], "max_fram": "1 KiB"}}}, False),
        ({"listener": {"a": {"endpoints": ["tcp:1"], "framing": "line"}}}, False),
        ({"listener": {"a": {}}}, False),
        ({"handler": {"a": {"type": "file", "path": "x", "retry": {"max_attempts": 3}}}}, True),
        ({"handler": {"a": {"type": "file", "path": "x", "retry": {"max_attempts": 0}}}}, False),
        ({"handler": {"a": {"type": "file"}}}, False),
        ({"handler": {"a": {"type": "console", "path": "x"}}}, False),
        ({"handler": {"a": {"type": "console", "encoder": "template", "template": "x"}}}, True),
        ({"handler": {"a": {"call": "a:b", "when_full": "drop_oldest"}}}, True),
        ({"handler": {"a": {"call": "a:b", "path": "x"}}}, False),
        ({"handler": {"a": {"match": "x"}}}, False),
        ({"admin": {"endpoint": "unix:/run/a", "token": "x"}}, True),
    ],
)
def test_the_settings_schema_tells_right_from_wrong(document, good):
    assert check(document, settings_schema(fake_registry())) is good


def test_the_settings_schema_of_what_is_installed_is_json(capsys):
    assert main(["schema", "settings"]) == 0
    document = json.loads(capsys.readouterr().out)
    listener = document["properties"]["listener"]["additionalProperties"]
    assert listener["properties"]["max_frame"]["default"] == "64 KiB"
    assert check({"listener": {"a": {"endpoints": ["tcp:1"], "multiline": {"start": "x"}}}}, document)


def test_the_event_schema_fits_events(capsys):
    assert main(["schema", "event"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == event_schema()
    assert list(document["properties"]) == list(Event.__struct_fields__)
    event = json.loads('{"id":"a-0","time":"2026-01-01T00:00:00Z","received":"2026-01-01T00:00:00Z","listener":"l",'
                       '"peer":"p","type":"text","message":"m","fields":{}}')  # fmt: skip
    assert check(event, document)
    assert document["version"] == 1
    assert all(property["description"] for property in document["properties"].values())
    for key in event:
        assert not check({k: v for k, v in event.items() if k != key}, document)


def test_the_reference_has_every_option_with_its_meaning():
    page = reference(Registry.from_entry_points())
    for row in (
        "| `memory` | size | `\"64 MiB\"` |",
        "| `max_frame` | size | `\"64 KiB\"` |",
        "| `endpoints` | list of texts |",
        "| `call` | text | required |",
        "### `multiline = {...}`",
        "### Framing `octet`",
        "| `retry.max_attempts` | integer | `8` |",
        "| `tls.cert` | text | required |",
    ):  # fmt: skip
        assert row in page
    for line in page.splitlines():
        if line.startswith("| `"):
            meaning = re.split(r"(?<!\\)\|", line)[4]
            assert meaning.strip(), line


def test_the_reference_leaves_out_what_other_packages_bring():
    registry = Registry.from_entry_points()
    registry.add("handlers", "theirs", Size, "theirs")
    assert "theirs" not in reference(registry)


def test_a_reference_that_is_not_what_the_code_says_is_found(tmp_path, capsys):
    assert reference_main([]) == 0
    page = capsys.readouterr().out
    file = tmp_path / "settings.md"
    file.write_text(page)
    assert reference_main(["--check", str(file)]) == 0
    file.write_text(page.replace("64 KiB", "65 KiB"))
    assert reference_main(["--check", str(file)]) == 1
    assert f"{file} is not what the code says" in capsys.readouterr().err
    assert reference_main(["--check", str(tmp_path / "gone.md")]) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (3, "3"),
        ("a", '"a"'),
        (r"^\S", r"'^\S'"),
        ("a'\r\n\x00", "\"a'" + r'\r\n\u0000"'),
        (Size(1024), '"1 KiB"'),
        ({"a": ["b"]}, '{a = ["b"]}'),
    ],
)
def test_values_are_written_as_toml(value, text):
    assert toml(value) == text
