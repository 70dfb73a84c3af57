"""atheris for some seconds; `make fuzz` is longer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.fuzz.__main__ import fuzz


def test_atheris_finds_nothing_in_a_few_seconds(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has packages for some versions of Python only")
    good, said = fuzz("all", 3, tmp_path)
    assert good, said[-4000:]
    # It does follow the code: the start alone takes more branches than this.
    assert int(re.findall(r"cov: (\d+)", said)[-1]) > 500, said[-1000:]
