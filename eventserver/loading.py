"""`module:function` to a callable, with an error that says what is wrong with it."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eventserver.errors import ComponentError


def describe(error: BaseException) -> str:
    """An exception as a part of a sentence: its class, and its text if it has one."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def load_object(reference: str, cwd: str | os.PathLike[str] | None = None) -> Callable[..., Any]:
    """The callable that `"module:function"` names; the module is also looked for in the current directory.

    The directory is on the import path during this import only, before the rest, so that a file `test.py` is the
    user's. Raises `ComponentError` if there is no such module, it fails to import, has no such attribute, or the
    attribute cannot be called.
    """
    module_name, _, attribute = reference.partition(":")
    if not attribute or not all(part.isidentifier() for part in f"{module_name}.{attribute}".split(".")):
        raise ComponentError(f"`{reference}` names no function; write `module:function`")
    folder = str(Path.cwd() if cwd is None else cwd)
    with _on_path(folder):
        found = _import(module_name, folder)
    for name in attribute.split("."):
        if not hasattr(found, name):
            near = difflib.get_close_matches(name, dir(found), n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise ComponentError(f"module `{module_name}` has no `{attribute}`{hint}")
        found = getattr(found, name)
    if not callable(found):
        raise ComponentError(f"`{reference}` is {type(found).__name__}, which cannot be called; name a function")
    return found  # type: ignore[no-any-return]  # whatever the user's module holds


@contextmanager
def _on_path(folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _import(module_name: str, folder: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise ComponentError(f"no module is called `{error.name}`, neither in {folder} nor installed") from error
        raise ComponentError(f"module `{module_name}` fails to import: {describe(error)}{_place(error)}") from error
    except (Exception, SystemExit) as error:
        raise ComponentError(f"module `{module_name}` fails to import: {describe(error)}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """The last line outside of the import system that the exception passed through."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name != __file__ and "importlib" not in name:
            found = f" ({name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found
