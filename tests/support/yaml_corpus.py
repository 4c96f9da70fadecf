"""YAML texts and how kubectl reads them, for tests of our reader and for the test that compares it with kubectl."""

from typing import Any, Final

SCALARS: Final[dict[str, Any]] = {
    **dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE", "!!bool yes"], True),
    **dict.fromkeys(["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"], False),
    **dict.fromkeys(["~", "null", "Null", "NULL", ""]),
    **{text: text for text in ["yEs", "nO", "tRue", "nUll", "=", "<<", ".", "..", "+", "++1", "1.2.3", "1,000"]},
    **{text: text for text in ["1:30", "190:20:30", "2001-12-14", "2001-12-14 21:59:43", "2001-1-1", "_1", "NaN"]},
    **{text: text for text in ["0x", "0b", "0o8", "1e", ".5e", "1e400", "0xFFFFFFFFFFFFFFFFF", "50ms", "1Gi"]},
    "0777": 511,
    "0o777": 511,
    "0O7": 7,
    "-0o7": -7,
    "018": 18,
    "08": 8,
    "0x1F": 31,
    "0X1F": 31,
    "0x_1F": 31,
    "0b101": 5,
    "-0b1": -1,
    "0b1_0": 2,
    "+12": 12,
    "-0": 0,
    "1_000": 1000,
    "1__0": 10,
    "1_": 1,
    "-1_": -1,
    ".5": 0.5,
    "-.5": -0.5,
    "5.": 5,
    "0.": 0,
    "1.0": 1,
    "0.1e1": 1,
    "1e3": 1000,
    "1E3": 1000,
    "-1e3": -1000,
    "1.0e+3": 1000,
    "12e03": 12000,
    "1e-7": 1e-07,
    "685_230.15": 685230.15,
    "3.14159265358979": 3.14159265358979,
    "9223372036854775807": 9223372036854775807,
    "99999999999999999999": 1e20,
    "!!float 1": 1,
    "!!str 12": "12",
    '!!int "3"': 3,
    '!!float "1.5"': 1.5,
    '!!bool "true"': True,
    "!!timestamp 2001-12-14": "2001-12-14",
    "!!binary aGVsbG8=": "hello",
    "!foo bar": "bar",
    "'it''s'": "it's",
    r'"\u00e9\t"': "é\t",
    '"yes"': "yes",
    "{a: 1, 2.5: b, true: c, 0x10: d, 1.0: e}": {"a": 1, "2.5": "b", "true": "c", "16": "d", "1": "e"},
    "{<<: {a: 1, b: 1}, a: 2}": {"a": 2, "b": 1},
    "{<<: [{a: 1}, {a: 2}]}": {"a": 1},
    "!!set {a, b}": {"a": None, "b": None},
    "!!omap [a: 1]": [{"a": 1}],
    "&a b": "b",
    "[&a {k: 1}, *a]": [{"k": 1}, {"k": 1}],
    "{2001-01-01: a}": {"2001-01-01": "a"},
}
"""Scalar in YAML -> its value in JSON."""

_A: Final = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
_WANT: Final = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
_JSON: Final = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "%s"}}'


def _named(name: str) -> dict[str, Any]:
    return {**_WANT, "metadata": {"name": name}}


DOCUMENTS: Final[dict[str, tuple[str, list[Any]]]] = {
    "one": (_A, [_WANT]),
    "empty ones are skipped": (f"---\n---\n{_A}---\n# only a comment\n---\n{_A}...\n", [_WANT, _WANT]),
    "a comment after the separator": (f"{_A}--- # c\n{_A}", [_WANT, _WANT]),
    "a byte order mark": (f"\ufeff{_A}", [_WANT]),
    "Windows line ends": (_A.replace("\n", "\r\n") + "---\r\n" + _A, [_WANT, _WANT]),
    "a separator inside a text": (f"{_A}x: |\n  a\n  ---\n  b\n", [{**_WANT, "x": "a\n---\nb\n"}]),
    "several JSON objects": (f"{_JSON % 'b'}\n{_JSON % 'c'}", [_named("b"), _named("c")]),
    "JSON, then YAML": (f"{_JSON % 'b'}\n---\n{_A}", [_named("b"), _WANT]),
    "a flow mapping that looks like JSON": ('{"apiVersion": v1, kind: ConfigMap, metadata: {name: a}}', [_WANT]),
    "a surrogate pair": (_JSON % r"\ud83d\ude81", [_named("\U0001f681")]),
    "half of a surrogate pair": (_JSON % r"a\ud83d", [_named("a\ufffd")]),
    "an escaped slash": (_JSON % r"a\/b", [_named("a/b")]),
    "nothing": ("", []),
}

REFUSED: Final = {
    "text after the separator": (
        f"{_A}---x: 1\n", "line 4: text after the separator ---: start the document on a new line"
    ),
    "a directive": (f"%YAML 1.1\n---\n{_A}", "line 2, column 1: did not find expected <document start>"),
    "infinity": (f"{_A}x: .inf\n", "line 4: infinity and NaN cannot be represented in JSON"),
    "not a number": (f"{_A}x: .nan\n", "line 4: infinity and NaN cannot be represented in JSON"),
    "a key that is null": (f"{_A}x: {{~: 1}}\n", "line 4: a key must not be null: quote it"),
    "a key that is a list": (f"{_A}x: {{[1]: a}}\n", "line 4: a key must be a string, not a list or a mapping"),
    "an invalid integer": (f"{_A}x: !!int 1.5\n", 'line 4: "1.5" is not a value of type int'),
    "a merge of a number": (f"{_A}x: {{<<: 3}}\n", "line 4: <<: requires a mapping or a list of mappings"),
    "an undefined alias": (f"{_A}x: [*x]\n", "line 4, column 5: found undefined alias"),
    "an alias that contains itself": (f"{_A}x: &a [*a]\n", "line 4: alias (*name) contains itself"),
    "half of a surrogate pair in YAML": (
        f'{_A}x: "\\ud83d"\n',
        "line 4, column 7: found invalid Unicode character escape code (while parsing a quoted scalar)",
    ),
}  # fmt: skip
"""Texts that kubectl rejects as well."""

_LAST_WINS: Final = "kubectl would silently use the last one; remove one"
STRICTER: Final = {
    "a duplicate key": (f"{_A}x: 1\nx: 2\n", f'line 5: duplicate key "x": {_LAST_WINS}'),
    "a duplicate key in JSON": (
        '{"kind": "ConfigMap", "metadata": {"name": "b", "name": "c"}}', f'line 1: duplicate key "name": {_LAST_WINS}'
    ),
    "a document after the end mark": (
        f"{_A}...\n{_A}", "line 5, column 1: did not find expected <document start>",
    ),
}  # fmt: skip
"""Texts that we reject; kubectl accepts them and silently drops a part."""
