"""The expression language: what it means, that it never raises, and that nothing else passes."""

import ast
import datetime as dt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver import _patterns, _values
from eventserver._parsing import MAX_DEPTH, MAX_LENGTH
from eventserver.errors import ExpressionError
from eventserver.event import Event
from eventserver.matching import compile_expression, compile_match
from eventserver.testing.encoders import AWKWARD_VALUES, awkward_events, sample_event

TIME = dt.datetime(2026, 11, 22, 15, 3, 0, tzinfo=dt.UTC)
EVENT = sample_event(
    time=TIME,
    received=TIME + dt.timedelta(seconds=1.5),
    message="Failed password for root",
    context={"labels": {"site": "hq"}},
    fields={
        "severity_code": 3,
        "app_name": "sshd",
        "ratio": 0.5,
        "yes": True,
        "nothing": None,
        "tags": ["a", "b", 3],
        "data": {"key": {"inner": "x"}, "app-name": 1},
        "started": TIME,
        "src": "2001:db8::1",
        "from": "keyword",
        "time": "shadowed",
    },
)


def value_of(expression: str, event: Event = EVENT) -> Any:
    return compile_expression(expression).value(event)


@pytest.mark.parametrize(
    "expression",
    [
        'severity_code <= 3 and app_name == "sshd"',
        "severity_code < 4 and 4 > severity_code and severity_code >= 3 and 2 < severity_code",
        "2 < severity_code <= 3",
        "severity_code == 3.0 and yes == 1 and ratio < 1",
        "severity_code != 4",
        'missing == None and nothing == None and missing != "x"',
        'not missing and not has("missing")',
        'has("nothing") and has("app_name") and has("message")',
        '"password" in message and "x" not in message',
        'app_name in ("sshd", "su") and app_name in ["sshd"] and app_name not in ("cron",)',
        'listener in ("lines", "x") and severity_code in (3, -1) and missing in (None,)',
        '"a" in tags and 3 in tags and "c" not in tags and tags[0] == "a" and tags[-1] == 3',
        '"key" in data and data["key"]["inner"] == "x" and context["labels"]["site"] == "hq"',
        "fields['app-name'] == None and data['app-name'] == 1 and fields['from'] == 'keyword'",
        "fields['time'] == 'shadowed' and lower(type) != 'shadowed'",
        'lower("SSHD") == app_name and lower(message) == "failed password for root"',
        'startswith(message, "Failed") and endswith(app_name, "d") and not startswith(app_name, "x")',
        'startswith(message, "Failed" + " p") and not startswith(message, 3)',
        'time == "2026-11-22T15:03:00Z" and time == "2026-11-22T16:03:00+01:00"',
        'time >= "2026-11-22 15:03:00Z" and received > "2026-11-22T15:03:01.4Z" and "2027-01-01T00:00:00Z" > time',
        'started == "2026-11-22T15:03:00Z" and started < "2026-11-22T15:03:01Z" and started <= time',
        'time in ("2026-11-22T15:03:00Z",) and started in ("2026-11-22T15:03:00Z", "x")',
        "received - time == 1.5 and time + 1.5 == received and received - 1.5 == time",
        "severity_code + 1 == 4 and severity_code - 1 == 2 and severity_code * 2 == 6 and severity_code / 2 == 1.5",
        '-severity_code == -3 and app_name + ":" == "sshd:"',
        'cidr(peer, "192.0.2.0/24") and cidr(peer, ("10.0.0.0/8", "192.0.0.0/8")) and not cidr(peer, "10.0.0.0/8")',
        'cidr(src, "2001:db8::/32")',
        r'matches(message, r"pass\w+ for \S+$") and matches(app_name, "^ssh") and not matches(missing, "")',
        'matches(message, "\\w+")',
        "severity_code == 3 or missing",
        "app_name\n  == 'sshd'",
        "  app_name == 'sshd'  ",
        "type == 'text' and id == '01BATCH-0' and peer",
    ],
)
def test_true_expressions(expression: str) -> None:
    assert value_of(expression)
    assert compile_match(expression).select([EVENT]) == [EVENT]
    assert compile_match(expression).reject([EVENT]) == []
    assert compile_match(f"not ({expression})").select([EVENT]) == []


@pytest.mark.parametrize(
    "expression",
    [
        "missing < 3",
        "missing >= 3",
        "app_name < 3",
        "3 < app_name",
        "app_name > 3",
        "tags < 3",
        "None < 3",
        "yes < 'x'",
        "time < 3",
        "started < 'yesterday'",
        "data < data",
        "tags < ('x' + 'y')",
        "'x' <= None",
    ],
)
def test_an_order_between_unlike_types_is_false(expression: str) -> None:
    assert value_of(expression) is False


@pytest.mark.parametrize(
    "expression",
    [
        "missing + 1",
        "app_name + 1",
        "1 + app_name",
        "app_name * 3",
        "-app_name",
        "1 / 0",
        "severity_code / missing",
        "tags + tags",
        "tags * 2",
        "lower(severity_code)",
        "missing['x']",
        "app_name['x']",
        "tags[9]",
        "data[0]",
        "9223372036854775807 + 1",
        "9e307 * 10 * 10",
        "time + app_name",
        "time - 'x'",
        "time + 1e300",
        "time + time",
        "app_name - app_name",
        "tags['a']",
        "missing[0]['x']",
    ],
)
def test_what_cannot_be_computed_is_none(expression: str) -> None:
    assert value_of(expression) is None


def test_values_are_those_of_python() -> None:
    assert value_of('missing or app_name or "none"') == "sshd"
    assert value_of("missing and app_name") is None
    assert value_of("received - time") == 1.5
    assert value_of("fields") == EVENT.fields
    assert value_of("True + 1") == 2


def test_texts_do_not_grow_beyond_their_bound() -> None:
    event = sample_event(message="x" * 40_000)
    assert value_of("message + 'y'", event) == "x" * 40_000 + "y"
    assert value_of("message + message", event) is None


@pytest.mark.parametrize(
    ("peer", "network", "inside"),
    [
        ("10.1.2.3:5140", "10.0.0.0/8", True),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3:5140", "10.0.0.0/8", False),
        ("10.1.2.3:1", "10.1.2.3", True),
        ("10.1.2.3:1", "10.9.9.9/8", True),
        ("[2001:db8::7]:51123", "2001:db8::/32", True),
        ("2001:db8::7", "2001:db8::/32", True),
        ("[2001:db9::7]:51123", "2001:db8::/32", False),
        ("[2001:db8::7]:51123", "10.0.0.0/8", False),
        ("[::ffff:10.1.2.3]:5", "10.0.0.0/8", True),
        ("[fe80::1%eth0]:5", "fe80::/10", True),
        ("unix:pid=1,uid=0", "0.0.0.0/0", False),
        ("unix:", "::/0", False),
        ("", "0.0.0.0/0", False),
        ("[", "0.0.0.0/0", False),
        ("1" * 10_000, "0.0.0.0/0", False),
    ],
)
def test_cidr_looks_at_the_address_alone(peer: str, network: str, inside: bool) -> None:
    assert value_of(f'cidr(peer, "{network}")', sample_event(peer=peer)) is inside
    assert value_of(f'cidr(x, "{network}")', sample_event(fields={"x": peer})) is inside


def test_a_batch_is_selected_in_order_and_the_rest_rejected() -> None:
    events = [sample_event(n, fields={"n": n} if n % 3 else {}) for n in range(20)]
    match = compile_match("n >= 10")
    assert [event.fields["n"] for event in match.select(events)] == [10, 11, 13, 14, 16, 17, 19]
    assert match.select(events) == match(events)
    assert sorted(match.select(events) + match.reject(events), key=events.index) == events
    assert compile_expression("n").values(events) == [event.fields.get("n") for event in events]
    assert match.expression == "n >= 10"


def test_columns_tell_what_the_events_do() -> None:
    events = [
        sample_event(fields=fields) for fields in ({"n": 1, "m": "x"}, {"n": 2}, {"m": "x"}, {"n": None, "m": "y"})
    ]
    for text, values in (
        ("n == 1", ("n",)),
        ("n != 1", ("n",)),
        ('n > 1 or m == "x"', ("n", "m")),
        ("not m", ("m",)),
        ('fields["n"] in (1, 2)', ("n",)),
        ("lower(m) == m", ("m",)),
    ):
        match = compile_match(text)
        assert match.values == values
        columns = {name: [event.fields.get(name) for event in events] for name in values}
        indexes = match.columns(columns)
        assert indexes is not None
        assert [events[index] for index in indexes] == match.select(events)


@pytest.mark.parametrize("text", ['has("n")', 'message == "m" and n == 1', "True", "fields", 'context["x"] == n'])
def test_conditions_on_more_than_values_have_no_columns(text: str) -> None:
    assert compile_match(text).values == ()


def test_columns_with_an_object_that_raises_or_without_one_that_is_needed_tell_nothing() -> None:
    class Raising:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]

    match = compile_match("n == 1")
    assert match.columns({"n": [1, Raising()]}) is None
    assert match.columns({}) is None


def test_an_object_that_raises_does_not_hurt_its_neighbours() -> None:
    """A decoder of one's own may put anything into `fields`; only that event is not selected."""
    good, bad = sample_event(0, fields={"x": "y"}), sample_event(1, fields={"x": AWKWARD_VALUES[10]})
    match = compile_match("x == 'y' or x")
    assert match.select([good, bad, good]) == [good, good]
    assert match.reject([good, bad, good]) == [bad]
    assert not match.holds(bad)
    assert compile_expression("x == 'y'").values([good, bad]) == [True, None]


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("a.b", r"column 1: .*x\['key'\]"),
        ("é == 1 and a.b", "column 12"),
        ("  a.b", "column 3"),
        ("a\n  and b.c", "column 9"),
        ("a == 1 && b", "write `and` for `&&`"),
        ("a = 1", "column 3.*write `==`"),
        ("a is None", "write `==`"),
        ("a | b", "write `or`"),
        ("a & b", "write `and`"),
        ("~a", "write `not`"),
        ("+a", "leave the"),
        ("a ** 2", "not in the language"),
        ("a % 2", "not in the language"),
        ("a if b else c", "not in the language"),
        ("lambda: 1", "not in the language"),
        ("[x for x in y]", "not in the language"),
        ("f'{a}'", "plain text"),
        ("b'x'", "literal"),
        ("1j", "literal"),
        ("...", "literal"),
        ("1e999", "too large"),
        ("9223372036854775808", "too large"),
        ("9" * 4000, "cannot be read|too large"),
        ("true", "write True"),
        ("x == null", "column 6: write None"),
        ("(1, 2)", "right of `in`"),
        ("x == [1]", "right of `in`"),
        ("x in (a, 1)", "column 7: the values of a list are literals"),
        ("x in ((1,), 2)", "literals"),
        ("x in (1,) in y", "nothing can follow"),
        ("x in {1, 2}", "write a list"),
        ("x[y]", "a key is a literal"),
        ("x[1:2]", "a key is a literal"),
        ("x[True]", "a key is a literal"),
        ("lowr(x)", r"did you mean lower\(x\)"),
        ("__import__('os')", "function is not in the language"),
        ("x.y()", "function is not in the language"),
        ("lower()", "is written lower"),
        ("lower(x, y)", "is written lower"),
        ("lower(x=1)", "is written lower"),
        ("startswith(*x)", "is written startswith"),
        ("has(x)", "name of a field as a text"),
        ("time > 'yesterday'", "is not a time"),
        ("'2026-11-22' <= received", "is not a time"),
        ("cidr(peer, '10')", "network is a text"),
        ("cidr(peer, x)", "literals"),
        ("cidr(peer, (1,))", "network is a text"),
        ("matches(x, y)", "stands in the expression itself"),
        ("matches(x, 3)", "stands in the expression itself"),
        ("matches(x, '(')", "column 12: .*not a regular expression"),
        (r"matches(x, '\bfoo')", "backspace"),
        ("a # comment\n and b", "`#`"),
        ("x\0", "cannot be read"),
        ("\ud800", "cannot be read"),
        ("'abc", "cannot be read"),
        ("a b", "column 3"),
        ("yield", "cannot be read"),
        ("(a := 1)", "not in the language"),
        ("x" * (MAX_LENGTH + 1), "at most 4096"),
        ("-" * 4000 + "x", "nested|deep"),
        ("not " * 900 + "x", "nested"),
        ("(" * 2000 + "x" + ")" * 2000, "cannot be read"),
        ("+".join("1" * 2000), "nested|parts"),
        ("x in (" + "1," * 1500 + ")", "parts"),
    ],
)
def test_what_is_not_in_the_language_is_refused_with_its_place_and_what_would_be_right(
    expression: str, sentence: str
) -> None:
    with pytest.raises(ExpressionError, match=sentence):
        compile_match(expression)


def test_the_deepest_expressions_compile() -> None:
    """What passes the bounds also passes Python's own compiler, brackets and all."""
    for wrap in (
        "({})<1",
        "1<({})<2",
        "startswith({},'a')",
        "-({})",
        "({})['a']",
        "not ({})",
        "({}) in (1,)",
        "a<({})==b",
    ):
        expression = "a"
        for _ in range(MAX_DEPTH - 2):
            expression = wrap.format(expression)
        assert compile_expression(expression).values([EVENT])


@pytest.mark.usefixtures("without_re2")
@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$",
        r"(a|aa)+$",
        r"(?:a{0,50}){0,50}",
        r"a?a?a?a?a?a?a?aaaaaaa",
        r"foo.*bar.*baz",
        r"x+x+y",
        r"(?:x?y)*z",
        r"(a|b|ab)*c",
        r"(?m)^x.*y.*z",
        r"x*x*$",
        r"(a)\1",
        r"(?=a)",
        r"(?<!a)b",
        r"(?>a)",
        r"a*+",
        r"(a)?(?(1)b|c)",
        "(" * 400 + ")" * 400,
        "a{99999999999}",
        "x" * 1001,
        "[",
        r"(a?){30}a{30}",
    ],
)
def test_patterns_that_could_take_long_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"pattern"):
        _patterns.compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^(\S+) (\S+) user=(\w+) failed$", "a b user=c failed"),
        (r"foo.*bar", "xfoo bar"),
        (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", "from 192.0.2.1"),
        (r"(error|fail|fatal|warn)", "a warning"),
        (r"(?i)ERROR", "an error"),
        (r"^Failed \w+ for (invalid user )?(\S+) from (\S+) port (\d+)", "Failed x for y from z port 1"),
        (r"\bfoo\b", "a foo."),
        (r"(?:ab|cd)+$", "abcd"),
        (r"[^\W\d]+ \d", "x 1"),
        (r"(x{2}){3,}$", "xxxxxx"),
        ("", "anything"),
    ],
)
def test_usual_patterns_are_found_anywhere_in_the_text(pattern: str, text: str) -> None:
    search = _patterns.compile_pattern(pattern)
    assert search(text)
    assert search("") is (pattern == "")


def test_without_re2_only_the_beginning_of_a_long_text_is_searched() -> None:
    if _patterns._re2() is None:
        search = _patterns.compile_pattern("x")
        assert search("." * (_patterns.MAX_TEXT - 1) + "x")
        assert not search("." * _patterns.MAX_TEXT + "x")


def test_re2_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `re` could not do in time, RE2 can."""

    class FakeRe2:
        class Options:
            log_errors = never_capture = None

        @staticmethod
        def compile(pattern: str, settings: Options) -> Any:
            assert settings.log_errors is False
            if pattern == "bad":
                raise RuntimeError("no such thing")
            return type("Compiled", (), {"search": staticmethod(lambda text: text == pattern or None)})

    monkeypatch.setattr(_patterns, "_re2", lambda: FakeRe2)
    assert _patterns.compile_pattern("(a+)+$")("(a+)+$")
    assert not _patterns.compile_pattern("(a+)+$")("x")
    with pytest.raises(ValueError, match="RE2 refuses"):
        _patterns.compile_pattern("bad")
    with pytest.raises(ValueError, match="back-reference"):
        _patterns.compile_pattern(r"(a)\1")


# What follows compares the compiled code with a plain interpreter of the same language, and throws random text at both.

ORDER: dict[type, Any] = {
    ast.Lt: _values.less,
    ast.LtE: _values.less_or_equal,
    ast.Gt: _values.greater,
    ast.GtE: _values.greater_or_equal,
}
ARITHMETIC: dict[type, Any] = {
    ast.Add: _values.add,
    ast.Sub: _values.subtract,
    ast.Mult: _values.multiply,
    ast.Div: _values.divide,
}


def interpret(node: Any, event: Event) -> Any:
    """The value of an expression, without any of the compiler's short cuts."""

    def of(child: Any) -> Any:
        return interpret(child, event)

    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            names = ("id", "time", "received", "listener", "peer", "type", "message", "context", "fields")
            return getattr(event, name) if name in names else event.fields.get(name)
        case ast.BoolOp(op=operator, values=values):
            for child in values:
                result = of(child)
                if bool(result) is isinstance(operator, ast.Or):
                    break
            return result
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not of(operand)
        case ast.UnaryOp(operand=operand):
            return _values.negate(of(operand))
        case ast.BinOp(left=left, op=operator, right=right):
            return ARITHMETIC[type(operator)](of(left), of(right))
        case ast.Compare(left=left, ops=operators, comparators=comparators):
            value = of(left)
            for operator, child in zip(operators, comparators, strict=True):
                other = of(child)
                if not compare(operator, value, other):
                    return False
                value = other
            return True
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return [of(element) for element in elements]
        case ast.Subscript(value=container, slice=key):
            return _values.item(of(container), of(key))
        case ast.Call(func=ast.Name(id="has"), args=[ast.Constant(value=name)]):
            return name in event.fields or name in ("time", "message")
        case ast.Call(func=ast.Name(id="lower"), args=[argument]):
            return _values.lower(of(argument))
        case ast.Call(func=ast.Name(id=name), args=[subject, edge]):
            return (_values.starts if name == "startswith" else _values.ends)(of(subject), of(edge))
    raise AssertionError(node)


def compare(operator: ast.cmpop, left: Any, right: Any) -> bool:
    if isinstance(operator, (ast.Eq, ast.NotEq)):
        return _values.equal(left, right) is isinstance(operator, ast.Eq)
    if isinstance(operator, (ast.In, ast.NotIn)):
        return _values.contains(left, right) is isinstance(operator, ast.In)
    result: bool = ORDER[type(operator)](left, right)
    return result


NAMES = [
    "severity_code",
    "app_name",
    "missing",
    "tags",
    "x",
    "data",
    "message",
    "listener",
    "time",
    "received",
    "context",
]
TEXTS = ['"a"', '"sshd"', '""', '"2026-11-22T15:03:00Z"']
LITERALS = [*TEXTS, "3", "0", "-1", "2.5", "True", "None"]
TIME_NAMES = ("time", "received")


def comparisons(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = st.sampled_from(["<", "<=", ">", ">=", "==", "!=", "in", "not in"])
    pairs = st.lists(st.tuples(signs, children), min_size=1, max_size=3)
    return st.builds(
        lambda first, rest: f"({first}) " + " ".join(f"{sign} ({right})" for sign, right in rest), children, pairs
    )


def expressions() -> st.SearchStrategy[str]:
    leaves = st.sampled_from([*NAMES, *LITERALS, 'has("x")', 'has("time")'])
    lists = st.lists(st.sampled_from(LITERALS), max_size=4).map(lambda values: "[" + ", ".join(values) + "]")

    def grow(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            comparisons(children),
            st.builds("({}) {} {}".format, children, st.sampled_from(["in", "not in"]), lists),
            st.builds("({}) {} ({})".format, children, st.sampled_from(["and", "or", "+", "-", "*", "/"]), children),
            st.builds("{}({})".format, st.sampled_from(["not ", "-", "lower"]), children),
            st.builds("({})[{}]".format, children, st.sampled_from(['"key"', "0", "-1"])),
            st.builds("{}({}, {})".format, st.sampled_from(["startswith", "endswith"]), children, children),
        )

    return st.recursive(leaves, grow, max_leaves=12)


VALUES = st.one_of(
    st.sampled_from(
        [3, 0, -1, 2.5, True, None, "a", "sshd", "", "2026-11-22T15:03:00Z", TIME, {"key": 1}, ["a", 3], b"a"]
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.integers(0, 9).map(lambda place: AWKWARD_VALUES[place]),
)
EVENTS = st.dictionaries(st.sampled_from(NAMES), VALUES).map(lambda fields: sample_event(fields=fields, time=TIME))


def same(one: Any, other: Any) -> bool:
    return one is other or repr(one) == repr(other)


@settings(max_examples=200, deadline=None)
@given(expressions(), st.lists(EVENTS, min_size=1, max_size=3))
def test_compiled_code_means_what_the_plain_interpreter_says(expression: str, events: list[Event]) -> None:
    try:
        compiled = compile_expression(expression)
    except ExpressionError as error:
        assert any(word in str(error) for word in ("is not a time", "nested", "`has` takes"))  # noqa: PT017  # not always raised
        return
    tree = ast.parse(expression, mode="eval").body
    expected = [interpret(tree, event) for event in events]
    assert all(map(same, compiled.values(events), expected))
    selected = [event for event, value in zip(events, expected, strict=True) if value]
    assert compile_match(expression).select(events) == selected


@settings(max_examples=100, deadline=None)
@given(expressions())
def test_nothing_raises_at_run_time(expression: str) -> None:
    try:
        match, compiled = compile_match(expression), compile_expression(expression)
    except ExpressionError:
        return
    events = awkward_events()[::7]
    assert len(match.select(events)) + len(match.reject(events)) == len(events)
    assert len(compiled.values(events)) == len(events)


PIECES = [
    "a",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "not ",
    "-",
    " in ",
    "==",
    "=",
    "<",
    ",",
    '"',
    "'",
    "1",
    ".",
    "lower",
    "\\",
    "\n",
]
PIECES += [
    "matches(a,",
    "cidr(",
    " and ",
    "lambda",
    ":",
    "*",
    "f'",
    "\0",
    "\ud800",
    "#",
    "é",
    "if ",
    "else ",
    "`",
    "@",
    "9" * 50,
]


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=30).map("".join)))
def test_any_text_compiles_or_is_an_expression_error(text: str) -> None:
    try:
        compile_match(text).select([EVENT])
        compile_expression(text)
    except ExpressionError:
        pass


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*"ab.*+?|()[]{}^$\\", "{1,3}", "(?:", "\\d", "\\1", "(?=", "(?i)", "é"]), max_size=12))
def test_any_pattern_compiles_or_is_a_value_error(pieces: list[str]) -> None:
    try:
        search = _patterns.compile_pattern("".join(pieces))
    except ValueError:
        return
    assert isinstance(search("aaab" * 20), bool)
