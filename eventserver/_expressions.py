"""The compiler of the expression language: text to a syntax tree that is all whitelisted, to Python source.

The text of a user is never executed. It is parsed with `ast`, each node is translated by a method of `Compiler` that
knows it, and what no method knows is an `ExpressionError`. The source that comes out holds names of our own choice
only: attributes of the event, `v0`, `v1`, ... for values met twice, `k0`, ... for literals, and functions of `_values`.

Common cases are written in line, guarded by the type they need (`v0 <= 3 if type(v0 := ...) is int else ...`); the
others go through a function of `_values` that never raises.
"""

from __future__ import annotations

import ast
import difflib
import ipaddress
import math
from typing import Any, NamedTuple

from eventserver import _values
from eventserver._parsing import one_line, parse
from eventserver._patterns import compile_pattern
from eventserver._template import EVENT_NAMES
from eventserver.errors import ExpressionError

_TIMES = frozenset({"time", "received"})
_TABLES = frozenset({"context", "fields"})
_ORDER = {
    ast.Lt: ("<", "less"),
    ast.LtE: ("<=", "less_or_equal"),
    ast.Gt: (">", "greater"),
    ast.GtE: (">=", "greater_or_equal"),
}
_ARITHMETIC = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide"}
_FUNCTIONS = {
    "has": 'has("name")',
    "lower": "lower(x)",
    "startswith": 'startswith(x, "..")',
    "endswith": 'endswith(x, "..")',
    "cidr": 'cidr(peer, "10.0.0.0/8")',
    "matches": 'matches(x, r"..")',
}
_OTHER_SPELLINGS = {"true": "True", "false": "False", "none": "None", "null": "None", "nil": "None"}
_TOO_LARGE = {int: _values.MAX_INT, float: math.inf}
_HINTS: dict[type[ast.AST], str] = {
    ast.Attribute: "write x['key'] for an entry of a table",
    ast.Is: "write `==`",
    ast.IsNot: "write `!=`",
    ast.BitAnd: "write `and`",
    ast.BitOr: "write `or`",
    ast.Invert: "write `not`",
    ast.Set: "write a list, such as (1, 2)",
    ast.NamedExpr: "write `==` to compare",
    ast.JoinedStr: "write a plain text",
    ast.Pow: "there are + - * /",
    ast.Mod: "there are + - * /",
    ast.FloorDiv: "there are + - * /",
    ast.UAdd: "leave the + out",
}


class Term(NamedTuple):
    """Source for a value, and what is known of it: its kind, and the value itself if it is a literal.

    Kinds: `str`, `time`, `number`, `bool`, `none`, and `any`. What is no literal and of kind `str` or `time` is an
    attribute of the event, and cheap to evaluate twice.
    """

    source: str
    kind: str = "any"
    literal: bool = False
    value: Any = None


class Compiler:
    """Translates one expression. `namespace` is what the source needs around it: literals and functions.

    `fields` are the names of the fields that it looks at; `only_fields` says that it looks at nothing else, and
    `only_values` that for all of them no value is the same as None. With `columns`, a field that is there is a variable
    of its own: `columns` has the name of each.
    """

    def __init__(self, text: str, columns: bool = False) -> None:
        self._text = one_line(text)
        self._indent = len(self._text) - len(self._text.lstrip())
        self._temporaries = 0
        self.fields: set[str] = set()
        self.only_fields = self.only_values = True
        self.columns: dict[str, str] | None = {} if columns else None
        self.namespace: dict[str, Any] = {"__builtins__": {}, "type": type, "str": str, "int": int}
        self.source = self.term(parse(text)).source

    def term(self, node: ast.expr) -> Term:
        """The source for one node and all below it. Raises `ExpressionError` for what the language has not."""
        match node:
            case ast.Constant(value=value):
                return self._literal(node, value)
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.BoolOp(op=operator, values=values):
                word = " and " if isinstance(operator, ast.And) else " or "
                return Term("(" + word.join(self.term(value).source for value in values) + ")")
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Term(f"(not {self.term(operand).source})", "bool")
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._negative(node, operand)
            case ast.BinOp(op=operator) if type(operator) in _ARITHMETIC:
                function = self._function(_ARITHMETIC[type(operator)])
                return Term(f"{function}({self._value(node.left)}, {self._value(node.right)})")
            case ast.Compare():
                return self._comparisons(node)
            case ast.Subscript():
                return self._item(node)
            case ast.Call():
                return self._call(node)
            case ast.Tuple() | ast.List():
                raise self._refusal(node, "a list stands only to the right of `in`")
            case ast.BinOp(op=operator) | ast.UnaryOp(op=operator):
                raise self._refusal(
                    node, f"this operator is not in the language; {_HINTS.get(type(operator), 'see the docs')}"
                )
        hint = _HINTS.get(
            type(node), "there are names, literals, comparisons, in, and or not, + - * /, x['key'], calls"
        )
        raise self._refusal(node, f"this is not in the language; {hint}")

    def _refusal(self, node: ast.expr, sentence: str) -> ExpressionError:
        # Columns of the tree count bytes of UTF-8.
        column = len(self._text[self._indent :].encode()[: node.col_offset].decode()) + self._indent + 1
        return ExpressionError(f"column {column}: {sentence}")

    # Leaves

    def _constant(self, value: Any) -> str:
        name = f"k{len(self.namespace)}"
        self.namespace[name] = value
        return name

    def _function(self, name: str) -> str:
        self.namespace[name] = getattr(_values, name)
        return name

    def _literal(self, node: ast.expr, value: Any) -> Term:
        if value is None:
            return Term("None", "none", True)
        if isinstance(value, bool):
            return Term(repr(value), "bool", True, value)
        if isinstance(value, str):
            return Term(self._constant(value), "str", True, value)
        if isinstance(value, (int, float)) and value >= _TOO_LARGE[type(value)]:
            raise self._refusal(node, "this number is too large")
        if isinstance(value, (int, float)):
            return Term(self._constant(value), "number", True, value)
        raise self._refusal(node, "this literal is not in the language; there are texts, numbers, True, False and None")

    def _negative(self, node: ast.expr, operand: ast.expr) -> Term:
        term = self.term(operand)
        if term.kind == "number" and term.literal:
            return Term(self._constant(-term.value), "number", True, -term.value)
        return Term(f"{self._function('negate')}({term.source})")

    def _name(self, node: ast.expr, name: str) -> Term:
        if name in _TABLES or name in EVENT_NAMES:
            self.only_fields = False
            return Term(f"e.{name}", "any" if name in _TABLES else "time" if name in _TIMES else "str")
        if name in _OTHER_SPELLINGS:
            raise self._refusal(node, f"write {_OTHER_SPELLINGS[name]}, or fields['{name}'] for a field of that name")
        return self._field(name)

    def _field(self, name: str | int) -> Term:
        if isinstance(name, str):
            self.fields.add(name)
            if self.columns is not None:
                return Term(self.columns.setdefault(name, f"c{len(self.columns)}"))
        return Term(f"f.get({self._constant(name)})")

    def _value(self, node: ast.expr) -> str:
        return self.term(node).source

    def _twice(self, term: Term) -> tuple[Term, Term]:
        """The term for where it is evaluated first, and for where its value is used again."""
        variable = self.columns is not None and term.source in self.columns.values()
        if variable or term.literal or term.kind in ("str", "time"):
            return term, term
        name = f"v{self._temporaries}"
        self._temporaries += 1
        return Term(f"({name} := {term.source})", term.kind), Term(name, term.kind)

    # Comparisons

    def _comparisons(self, node: ast.Compare) -> Term:
        left = self.term(node.left)
        sources = []
        for operator, right_node in zip(node.ops, node.comparators, strict=True):
            last = right_node is node.comparators[-1]
            if isinstance(operator, (ast.In, ast.NotIn)):
                source, again = self._membership(left, right_node, last)
            elif isinstance(operator, (ast.Is, ast.IsNot)):
                raise self._refusal(node, f"`is` is not in the language; {_HINTS[type(operator)]}")
            else:
                first, again = (self.term(right_node),) * 2 if last else self._twice(self.term(right_node))
                source = self._comparison(node, operator, left, first)
            sources.append(f"(not {source})" if isinstance(operator, (ast.NotEq, ast.NotIn)) else source)
            left = again
        return Term("(" + " and ".join(sources) + ")" if len(sources) > 1 else sources[0], "bool")

    def _comparison(self, node: ast.expr, operator: ast.cmpop, left: Term, right: Term) -> str:
        left, right = self._as_times(node, left, right), self._as_times(node, right, left)
        if isinstance(operator, (ast.Eq, ast.NotEq)):
            if self._plain(left) or self._plain(right) or (left.kind == right.kind and left.kind in ("str", "time")):
                return f"({left.source} == {right.source})"
            return f"{self._function('equal')}({left.source}, {right.source})"
        sign, name = _ORDER[type(operator)]
        if left.kind == right.kind and left.kind in ("str", "time", "number"):
            return f"({left.source} {sign} {right.source})"
        function = self._function(name)
        for one, other in ((left, right), (right, left)):
            if one.literal and one.kind == "number" and other.kind == "any":
                first, again = self._twice(other)
                inline = (
                    f"{again.source} {sign} {one.source}" if one is right else f"{one.source} {sign} {again.source}"
                )
                call = f"{again.source}, {one.source}" if one is right else f"{one.source}, {again.source}"
                # Missing is the common other case; a whole number the common one.
                unlike = f"{again.source} is not None and {function}({call})"
                return f"({inline} if type({first.source}) is int else {unlike})"
        return f"{function}({left.source}, {right.source})"

    def _plain(self, term: Term) -> bool:
        """Whether Python's own `==` with this term is right: a literal that is not the text of a time."""
        return term.literal and (term.kind != "str" or _values.parse_time(term.value) is None)

    def _as_times(self, node: ast.expr, term: Term, other: Term) -> Term:
        """The term, with a text beside one of the event's times read as a time."""
        if other.kind != "time" or term.kind != "str" or not term.literal:
            return term
        time = _values.parse_time(term.value)
        if time is None:
            raise self._refusal(node, f'{term.value!r} is not a time; write one such as "2026-11-22T15:03:00Z"')
        return Term(self._constant(time), "time", True, time)

    def _membership(self, left: Term, node: ast.expr, last: bool) -> tuple[str, Term]:
        if isinstance(node, (ast.Tuple, ast.List)):
            if not last:
                raise self._refusal(node, "nothing can follow a list; write `and`")
            return self._among(left, [self._element(element) for element in node.elts]), left
        right = self.term(node)
        first, again = (right, right) if last else self._twice(right)
        if left.kind == right.kind == "str":
            return f"({left.source} in {first.source})", again
        return f"{self._function('contains')}({left.source}, {first.source})", again

    def _element(self, node: ast.expr) -> Term:
        term = None if isinstance(node, (ast.Tuple, ast.List)) else self.term(node)
        if term is None or not term.literal:
            raise self._refusal(node, "the values of a list are literals")
        return term

    def _among(self, left: Term, elements: list[Term]) -> str:
        values = tuple(element.value for element in elements)
        if left.kind == "time" or not all(map(self._plain, elements)):
            return f"{self._function('contains')}({left.source}, {self._constant(values)})"
        if left.kind == "str":
            return f"({left.source} in {self._constant(frozenset(values))})"
        first, again = self._twice(left)
        function, among = self._function("among"), self._constant(frozenset(values))
        usual = "str" if any(isinstance(value, str) for value in values) else "int"
        return (
            f"({again.source} in {among} if type({first.source}) is {usual} else {function}({again.source}, {among}))"
        )

    # Entries and calls

    def _item(self, node: ast.Subscript) -> Term:
        key = self.term(node.slice) if isinstance(node.slice, (ast.Constant, ast.UnaryOp)) else None
        if key is None or not key.literal or isinstance(key.value, bool) or not isinstance(key.value, (str, int)):
            raise self._refusal(node, "a key is a literal; write x['key'], or x[0] for an element of a list")
        if isinstance(node.value, ast.Name) and node.value.id in _TABLES:
            if node.value.id == "fields":
                return self._field(key.value)
            self.only_fields = False
            return Term(f"e.context.get({key.source})")
        return Term(f"{self._function('item')}({self._value(node.value)}, {key.source})")

    def _call(self, node: ast.Call) -> Term:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in _FUNCTIONS:
            near = difflib.get_close_matches(name, _FUNCTIONS, n=1, cutoff=0.5)
            known = f"did you mean {_FUNCTIONS[near[0]]}?" if near else f"there are {' '.join(_FUNCTIONS.values())}"
            raise self._refusal(node, f"this function is not in the language; {known}")
        if node.keywords or len(node.args) != _FUNCTIONS[name].count(",") + 1:
            raise self._refusal(node, f"`{name}` is written {_FUNCTIONS[name]}")
        if name == "has":
            return self._has(node, node.args[0])
        subject = self.term(node.args[0])
        if name == "lower":
            if subject.kind == "str":
                return Term(f"{subject.source}.lower()", "str")
            return Term(f"{self._function('lower')}({subject.source})")
        if name in ("startswith", "endswith"):
            return self._edge(name, subject, self.term(node.args[1]))
        test = self._networks(node.args[1]) if name == "cidr" else self._pattern(node.args[1])
        return Term(f"{self._constant(test)}({subject.source})", "bool")

    def _has(self, node: ast.expr, argument: ast.expr) -> Term:
        term = self.term(argument)
        if not term.literal or term.kind != "str":
            raise self._refusal(node, '`has` takes the name of a field as a text: has("name")')
        if term.value in EVENT_NAMES:
            return Term("True", "bool", True, True)
        self.fields.add(term.value)
        self.only_values = False
        if self.columns is not None:
            self.columns.setdefault(term.value, f"c{len(self.columns)}")
            return Term("True", "bool")
        return Term(f"({term.source} in f)", "bool")

    def _edge(self, name: str, subject: Term, edge: Term) -> Term:
        function = self._function("starts" if name == "startswith" else "ends")
        if not (edge.literal and edge.kind == "str"):
            return Term(f"{function}({subject.source}, {edge.source})", "bool")
        first, again = self._twice(subject)
        inline = f"{again.source}.{name}({edge.source})"
        if subject.kind == "str":
            return Term(inline, "bool")
        return Term(f"({inline} if type({first.source}) is str else {function}({again.source}, {edge.source}))", "bool")

    def _networks(self, node: ast.expr) -> Any:
        elements = node.elts if isinstance(node, (ast.Tuple, ast.List)) else [node]
        networks = []
        for element in elements:
            term = self._element(element)
            try:
                networks.append(ipaddress.ip_network(term.value if term.kind == "str" else "", strict=False))
            except ValueError:
                raise self._refusal(element, 'a network is a text such as "10.0.0.0/8" or "2001:db8::/32"') from None
        return _values.within(tuple(networks))

    def _pattern(self, node: ast.expr) -> Any:
        term = self.term(node)
        if not term.literal or term.kind != "str":
            raise self._refusal(node, 'a pattern is a text that stands in the expression itself: matches(x, r"..")')
        try:
            return _values.found(compile_pattern(term.value))
        except ValueError as error:
            raise self._refusal(node, str(error)) from None
