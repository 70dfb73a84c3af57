"""Tables that are kept in the documentation, between two comments."""

from __future__ import annotations

from pathlib import Path


def between(page: str, name: str, text: str) -> str:
    """The page with `text` between `% NAME: begin` and `% NAME: end`. Raises ValueError where these are not."""
    begin, end = f"% {name}: begin\n", f"% {name}: end\n"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"the page has no part {name}")
    before, rest = page.split(begin)
    return f"{before}{begin}\n{text.strip()}\n\n{end}{rest.split(end)[1]}"


def update(path: Path, name: str, text: str) -> None:
    """The same with a file."""
    path.write_text(between(path.read_text(), name, text))
