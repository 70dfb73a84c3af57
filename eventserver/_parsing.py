"""The text of an expression to a syntax tree of bounded size; what it may hold is the matter of `_expressions`."""

from __future__ import annotations

import ast
import re
import warnings

from eventserver.errors import ExpressionError

#: Bounds of an expression: characters, nodes of its syntax tree, and nesting.
MAX_LENGTH = 4096
MAX_NODES = 1000
MAX_DEPTH = 40

_C_SPELLINGS = {"&&": "and", "||": "or"}
_SINGLE_EQUALS = re.compile("(?<![=!<>])=(?!=)")


def one_line(text: str) -> str:
    """The expression with its line ends as spaces: in TOML a long one may be written on several lines."""
    return text.replace("\n", " ").replace("\r", " ")


def parse(text: str) -> ast.expr:
    """The syntax tree of an expression, within the bounds. Raises `ExpressionError`, nothing else."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression has at most {MAX_LENGTH} characters, this one has {len(text)}")
    line = one_line(text)
    if not line.strip():
        raise ExpressionError("the expression is empty; write one such as severity_code <= 3")
    if line != text and "#" in text:
        raise ExpressionError("an expression of several lines cannot hold a `#`")
    indent = len(line) - len(line.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a text stays as it is: patterns are written so.
            body = ast.parse(line[indent:], mode="eval").body
    except SyntaxError as error:
        column = f" at column {error.offset + indent}" if error.offset else ""
        hints = [f"; write `{right}` for `{wrong}`" for wrong, right in _C_SPELLINGS.items() if wrong in line]
        if _SINGLE_EQUALS.search(line):
            hints.append("; write `==` to compare")
        raise ExpressionError(f"the expression cannot be read{column}: {error.msg}{''.join(hints)}") from None
    except (RecursionError, MemoryError):
        raise ExpressionError("the expression cannot be read: it is nested too deeply") from None
    except ValueError as error:  # A NUL or a lone surrogate.
        raise ExpressionError(f"the expression cannot be read: {error}") from None
    _check_bounds(body)
    return body


def _check_bounds(body: ast.expr) -> None:
    waiting: list[tuple[ast.AST, int]] = [(body, 1)]
    nodes = 0
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if depth > MAX_DEPTH:
            raise ExpressionError(f"the expression is nested more than {MAX_DEPTH} deep; use brackets less, or steps")
        if nodes > MAX_NODES:
            raise ExpressionError(f"the expression has more than {MAX_NODES} parts")
        waiting.extend((child, depth + 1) for child in ast.iter_child_nodes(node))
