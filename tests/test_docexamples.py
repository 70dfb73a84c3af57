"""The reader of examples notices when a page says what is not so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docexamples import Reader, blocks_of, commands_of, pattern_of_lines

SERVER = "<!-- server -->\n```console\n$ eventserver run --listen tcp:5140:interface=127.0.0.1 --handler null\n```\n"


def read(folder: Path, page: str) -> int:
    path = folder / "page.md"
    path.write_text(page)
    with Reader(path, folder) as reader:
        return reader.follow()


@pytest.mark.parametrize(
    "wrong",
    [
        "```console\n$ echo hello\nhullo\n```",
        "```console\n$ false; echo $?\n0\n```",
        "```console\n$ true\nsomething\n```",
        "```console\n$ echo unexpected\n```",
        "<!-- types: hello -->\n```console\n$ cat\nhello\nhullo\n```",
        '```toml\n[listener.x]\nendpoints = ["tcp:0"]\nmax_fram = "1 KiB"\n```',
        '<!-- file: x.toml -->\n```toml\nmemori = "1 GiB"\n```',
        "```pycon\n>>> 1 + 1\n3\n```",
        "```python\nraise SystemExit(3)\n```",
        "```python\nprint(1)\n```\n<!-- output -->\n```text\n2\n```",
        "<!-- tested by: tests/no_such_file.py -->\n```console\n$ true\n```",
        "```json\n{\n```",
    ],
)
def test_what_is_not_so_is_an_error(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(AssertionError, match=r"^page\.md:\d+: "):
        read(tmp_path, f"# Page\n\n{wrong}\n")


def test_what_is_so_is_counted(tmp_path: Path) -> None:
    page = "```console\n$ echo a; \\\n  echo b\na\nb\n$ echo $((6 * 7))\n42\n```\n\n```text\na drawing\n```\n"
    assert read(tmp_path, page) == 1


def test_servers_run_until_the_page_ends(tmp_path: Path) -> None:
    taken = "```console\n$ eventserver run --listen tcp:5140:interface=127.0.0.1\n...\n... in use\n$ echo $?\n1\n```\n"
    assert read(tmp_path, f"{SERVER}\n{taken}") == 2
    assert read(tmp_path, SERVER) == 1


def test_output_is_compared_by_form_where_it_differs_from_run_to_run() -> None:
    shown = pattern_of_lines('{"id":"01M81YK0Q05JX0KRSRB7P5M3E6-0","peer":"127.0.0.1:49388"}\n...\n1 passed in 0.02s\n')
    said = '{"id":"01JGFJJZ000000000000000000-0","peer":"127.0.0.1:33000"}\nx\ny\n1 passed in 12.34s\n'
    assert shown.fullmatch(said)
    assert not shown.fullmatch(said.replace("-0", "-1"))
    assert not shown.fullmatch(said.replace("1 passed", "2 passed"))


def test_markers_belong_to_the_block_below_them() -> None:
    page = "<!-- file: a.py -->\n<!-- wrong -->\n```python\n1\n```\n\n```python\n2\n```\n"
    first, second = blocks_of(page)
    assert (first.markers, second.markers) == ({"file": "a.py", "wrong": ""}, {})
    assert (first.line, second.line) == (3, 7)


def test_commands_have_the_output_below_them() -> None:
    assert commands_of("$ a\n1\n2\n$ for x in y; do\n> b\n> done\n3\n") == [
        ("a", "1\n2\n"),
        ("for x in y; do\nb\ndone", "3\n"),
    ]
