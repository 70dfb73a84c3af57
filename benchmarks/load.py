"""The load generator, written in C (`load/`): building it, and calling it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "load"
BUILT = HERE / "build"


class LoadFailed(Exception):
    """The load generator could not be built, or ended with an error."""


def build(folder: Path = BUILT) -> Path:
    """The program; compiled when it is older than its sources."""
    sources = sorted(SOURCES.glob("*.[ch]"))
    program = folder / "load"
    if program.exists() and program.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise LoadFailed("the load generator needs a C compiler (Debian: apt-get install gcc libc6-dev)")
    folder.mkdir(parents=True, exist_ok=True)
    # Several processes may find that it has to be built.
    made = folder / f"load.{os.getpid()}"
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
    argv = [compiler, *flags, "-o", str(made), *(str(source) for source in sources if source.suffix == ".c")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LoadFailed(done.stderr)
    made.rename(program)
    return program


def call(command: str, timeout: float = 300.0, **options: object) -> dict[str, Any]:
    """Run `load COMMAND` with the options (`burst_us=500` is `--burst-us 500`, True is a flag, None is left out)."""
    argv = [str(build()), command]
    for name, value in options.items():
        if value is None or value is False:
            continue
        argv.append("--" + name.replace("_", "-"))
        if value is not True:
            argv.append(str(value))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise LoadFailed(f"{' '.join(argv)}: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result
