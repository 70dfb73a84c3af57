"""A name to a component, and `module:function` to a function."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from eventserver.registry import KINDS, ComponentError, Registry, load_object


@pytest.fixture
def entry_points(monkeypatch):
    """Has the registry find the entry points that a test adds: (distribution, kind, name, object)."""
    found: list[tuple[str, str, str, str]] = []

    class Distribution:
        def __init__(self, name: str) -> None:
            self.name = name

    def installed(*, group: str) -> list[EntryPoint]:
        points = []
        for distribution, kind, name, value in found:
            if group == f"eventserver.{kind}":
                point = EntryPoint(name, value, group)
                vars(point)["dist"] = Distribution(distribution)
                points.append(point)
        return points

    monkeypatch.setattr("importlib.metadata.entry_points", installed)
    return found


def test_our_components_are_found_by_entry_points():
    registry = Registry.from_entry_points()
    assert registry.get("framers", "lines").__name__ == "LinesFramer"
    assert registry.get("eventserver.encoders", "json").__name__ == "JsonEncoder"
    assert [source.distribution for source in registry.sources("handlers", "console")] == ["eventserver"]
    assert all(registry.names(kind) for kind in KINDS)


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(ComponentError, match=r"no framer is called `line`; did you mean `lines`\?"):
        Registry.from_entry_points().get("framers", "line")
    with pytest.raises(ComponentError, match="no step is called `zzz`; there are `drop`, `set`"):
        Registry.from_entry_points().get("steps", "zzz")


def test_two_packages_that_offer_one_name_are_both_named(entry_points):
    entry_points += [("one", "handlers", "x", "os:path"), ("two", "handlers", "x", "os:sep")]
    registry = Registry.from_entry_points()
    with pytest.raises(ComponentError, match="handler `x` is offered by one and two; uninstall one of them"):
        registry.get("handlers", "x")


def test_one_package_that_is_found_twice_is_one(entry_points):
    entry_points += [("one", "handlers", "x", "os:getcwd")] * 2
    assert Registry.from_entry_points().get("handlers", "x") is __import__("os").getcwd


def test_a_broken_entry_point_hurts_only_those_who_use_it(entry_points):
    entry_points += [("bad", "handlers", "x", "no_such_module_y:Z"), ("good", "handlers", "y", "os:getcwd")]
    registry = Registry.from_entry_points()
    assert registry.names("handlers") == ["x", "y"]
    assert registry.get("handlers", "y")
    with pytest.raises(
        ComponentError, match=r"handler `x` of bad does not load \(no_such_module_y:Z\): ModuleNotFound"
    ):
        registry.get("handlers", "x")


def test_a_component_added_by_hand_takes_the_place_of_another():
    registry = Registry.from_entry_points()
    registry.get("framers", "lines")
    registry.add("framers", "lines", Path)
    assert registry.get("framers", "lines") is Path


def test_a_function_is_loaded_from_the_current_directory(tmp_path, monkeypatch):
    """The directory is on the path during the import only; the module's neighbours are found too."""
    (tmp_path / "neighbour_1.py").write_text("VALUE = 7\n")
    (tmp_path / "loaded_1.py").write_text("import neighbour_1\nclass A:\n    @staticmethod\n    def f(): return 7\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert load_object("loaded_1:A.f")() == 7
    assert sys.path == before


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("loaded_2", "`loaded_2` names no function; write `module:function`"),
        ("loaded_2:", "`loaded_2:` names no function; write `module:function`"),
        ("loaded 2:f", "`loaded 2:f` names no function; write `module:function`"),
        ("loaded_2:alrm", "module `loaded_2` has no `alrm`; did you mean `alarm`?"),
        ("loaded_2:N", "`loaded_2:N` is int, which cannot be called; name a function"),
        ("gone_2:f", "no module is called `gone_2`, neither in "),
        ("loaded_2.gone:f", "no module is called `loaded_2.gone`"),
        ("raising_2:f", "module `raising_2` fails to import: ZeroDivisionError: division by zero ("),
        ("importing_2:f", "module `importing_2` fails to import: ModuleNotFoundError: No module named 'gone_3'"),
        ("exiting_2:f", "module `exiting_2` fails to import: SystemExit: 3"),
        ("syntax_2:f", "module `syntax_2` fails to import: SyntaxError: "),
    ],
)
def test_what_cannot_be_loaded_is_said_plainly(tmp_path, reference, sentence):
    for name, text in {
        "loaded_2": "N = 1\ndef alarm(event): ...\n",
        "raising_2": "x = 1\n1 / 0\n",
        "importing_2": "import gone_3\n",
        "exiting_2": "raise SystemExit(3)\n",
        "syntax_2": "def\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(ComponentError) as caught:
        load_object(reference, tmp_path)
    assert str(caught.value).startswith(sentence)


def test_the_place_of_a_failing_import_is_named(tmp_path):
    (tmp_path / "raising_3.py").write_text("x = 1\n1 / 0\n")
    with pytest.raises(ComponentError, match=r"raising_3\.py, line 2\)$"):
        load_object("raising_3:f", tmp_path)
