"""Words and files whose meaning parsers of YAML dispute, for tests that hold ours against kubectl's.

A word stands as a value in a map, without quotation marks unless it brings its own. What a file means is asked of
kubectl itself, so that no table here can be wrong.
"""

from __future__ import annotations

import random
from typing import Final

HEAD: Final = "apiVersion: vllm.echo-roots.io/v1alpha1\nkind: VLLMModel\nmetadata: {name: q}\n"


def _words(text: str) -> list[str]:
    return text.split()


_BOOLEANS: Final = _words(
    """
    y Y n N yes Yes YES yEs no No NO true True TRUE tRue false FALSE on On ON off Off OFF t f
    """
)
_NULLS: Final = ["", "~", "null", "Null", "NULL", "nULL", "~x"]
_NUMBERS: Final = _words(
    """
    1e3 12e03 1E3 1e+3 1e-7 1.e5 5. .5 .5e3 .5_0 +.5 -.5 +1 -1 ++1 - + . .. 0 -0 -0.0 00 0.0 1.0 0.1 09 012
    017 0_17 0o17 0o8 0O17 0x1F 0X1f 0x 0xg 0x_1F 0x1p4 0b11 0B1 0b12 -0b1 1_000 _1 -_1 1__0 1_0.5 1,000 inf
    nan 1e e1 1e20 1e21 1e22 1e999 .5e999 1e-999 9223372036854775807 9223372036854775808 -9223372036854775808
    -9223372036854775809 18446744073709551615 18446744073709551616 0xffffffffffffffff 0xfffffffffffffffff
    07777777777777777777777777 123456789012345678901 0.30000000000000004 1.7976931348623157e308
    100000000000000000000.0
    """
)
_TEXTS: Final = _words(
    """
    12:30:45 1:2 = <<x 2026-01-01 2026-1-1 2026-13-45 2026-01-01T00:00:00Z 2026-01-01t1:2:3.5+01:00 20260101
    a#b b*c x=y
    """
)
_TAGGED: Final = [
    *("!!str 5", "!!str", "!!float 5", "!!int '5'", '!!int "0x10"', "!!bool 'yes'", "!!null ''", "!!binary aGk="),
    *("!foo 5", "! 5", "!<tag:yaml.org,2002:str> 5", "!!timestamp 2026-01-01", "'y'", '"1"', "'it''s'"),
]

_LONG: Final = ["1" * 5000, "-" + "9" * 400, "0x" + "f" * 500, "0." + "1" * 500]

WORDS: Final = (*_BOOLEANS, *_NULLS, *_NUMBERS, *_TEXTS, *_TAGGED, *_LONG)

REFUSED_WORDS: Final = (".inf", "-.INF", ".nan", "!!int 5.0", "!!bool 1", "!!int x", "!!binary *", "@x", "`x", "*x")

KEYS: Final = _words(
    """
    y on 1 0x10 1.5 1e5 1e6 1000000.0 123456.7 1234567 1234567.0 16777217.0 0.1 0.0001 0.00001 1e21 -.inf .nan
    = 2026-01-01
    """
)

_ALPHABET: Final = "0123456789+-._eExXobBnytTfN~="


def random_words(how_many: int, seed: int) -> list[str]:
    """Short words of the letters that numbers, booleans and nulls are made of."""
    chance = random.Random(seed)  # noqa: S311 # chosen words, no secrets
    words = ("".join(chance.choices(_ALPHABET, k=chance.randint(1, 6))) for _ in range(how_many))
    return [word for word in words if word != "-"]


PARTS: Final[dict[str, str]] = {
    "tab after colon": "a:\tb",
    "tab after value": "a: b\t",
    "tab before comment": "a: b\t# c",
    "tab in text": "a: b\tc",
    "tab as indentation": "a:\n\tb: c",
    "tab in flow": "a: {\tb:\tc\t}",
    "tab after dash": "a:\n-\tb",
    "tab before map in list": "a:\n-\tb: c",
    "tab in empty line": "a: b\n\t\nc: d",
    "tab in continued text": "a: b\n \tc",
    "field twice": "a: 1\na: 2",
    "field twice, once in quotation marks": 'a: 1\n"a": 2',
    "field twice, as numbers": "1: 1\n0x1: 2",
    "merge before": "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3",
    "merge after": "x: &x {a: 1, b: 2}\ny:\n  b: 3\n  <<: *x",
    "merge of two": "x: &x {a: 1}\nz: &z {a: 2, c: 3}\ny:\n  <<: [*x, *z]",
    "merge of a map in place": "y:\n  <<: {a: 1}",
    "merge of a number": "y:\n  <<: 3",
    "merge in quotation marks": 'y:\n  "<<": 3',
    "alias": "x: &x [1, y]\ny: *x",
    "alias of nothing": "y: *x",
    "alias of itself": "x: &x [*x]",
    "alias as name": "x: &x a\n*x : 3",
    "anchor twice": "a: &x 1\nb: &x 2\nc: *x",
    "aliases by the million": "\n".join(
        [f"{'abcdefg'[0]}: &a [x,x,x,x,x,x,x,x,x]"]
        + [f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]" for before, name in ("ab", "bc", "cd", "de", "ef", "fg")]
    ),
    "null as name": "~: 1",
    "list as name": "[a]: 1",
    "map as name": "{a: b}: 1",
    "question mark": "? a\n: b",
    "set": "a: !!set {x, y}",
    "ordered map": "a: !!omap [x: 1]",
    "colon in flow": "a: {b:c}",
    "colon after quotation marks": 'a: {"b":c}',
    "colon in list": "a: [b:c, d]",
    "literal": "a: |\n  x\n  y",
    "folded": "a: >-\n  x\n  y",
    "literal with a tab": "a: |\n\tx",
    "no-break space": "a: \u00a0b",
    "next line": "a: b\u0085c",
    "control character": 'a: "\x01"',
    "escapes": 'a: "\\x41\\u00e9\\U0001F600\\e\\0\\_\\N"',
    "escaped slash": 'a: "\\/"',
    "half a character": 'a: "\\ud800"',
    "unknown escape": 'a: "\\q"',
    "colon in text": "a: b:c",
    "number sign in text": "a: b#c",
    "percent": "a: %x",
    "percent as name": "%x: a",
    "text of two lines": "a: b\n  c",
    "dashes as text": "a: ---",
    "dots as text": "a: ...",
    "text that ends in a colon": "a: b:",
    "list without indentation": "a:\n- 1\n- y",
    "nothing": "a:\nb: ",
    "nothing in a list": "a:\n- \n- ~",
    "very long name": "k" * 1100 + ": v",
    "unclosed": "a: [1",
    "wrong indentation": "a: 1\n b: 2",
    "unknown tag": "a: !e!x y",
    "ninety levels": "a: " + "[" * 85 + "]" * 85,
    "line ends of Windows": "a: b\r\nc: |\r\n  d\r\n  e\r",
}
"""Pieces that stand in a map of a resource."""


def _yaml(value: object) -> str:
    return f"{HEAD}spec: {{a: {value}}}\n"


def _json(value: str) -> str:
    head = '"apiVersion":"vllm.echo-roots.io/v1alpha1","kind":"VLLMModel","metadata":{"name":"q"}'
    return f'{{{head},"spec":{{"a":{value}}}}}'


FILES: Final[dict[str, str]] = {
    "two documents": _yaml(1) + "---\n" + _yaml(2),
    "separator first": "---\n" + _yaml(1),
    "separator twice": _yaml(1) + "---\n---\n" + _yaml(2),
    "separator with a comment": _yaml(1) + "--- # x\n" + _yaml(2),
    "separator with blanks": _yaml(1) + "---  \t\n" + _yaml(2),
    "separator with a value": _yaml(1) + "--- x\n" + _yaml(2),
    "separator at a word": _yaml(1) + "---x\n",
    "separator in a text": _yaml('"x\n---\n y"'),
    "separators of Windows": (_yaml(1) + "---\n" + _yaml(2)).replace("\n", "\r\n"),
    "dots": _yaml(1) + "...\n" + _yaml(2),
    "dots before nonsense": _yaml(1) + "...\n[{\n",
    "comments alone": "# c\n---\n" + _yaml(1) + "---\n# d\n",
    "null document": "---\n~\n---\n" + _yaml(1),
    "byte order mark": "\ufeff" + _yaml(1),
    "byte order mark before JSON": "\ufeff" + _json("1"),
    "directive": "%YAML 1.1\n---\n" + _yaml(1),
    "no line end": _yaml(1).rstrip("\n"),
    "flow": "{apiVersion: vllm.echo-roots.io/v1alpha1, kind: VLLMModel, metadata: {name: q}, spec: {a: y}}",
    "JSON": _json("1"),
    "JSON after a tab": "\t" + _json("1"),
    "JSON after a comment": "# c\n" + _json('"y"'),
    "JSON twice": _json("1") + _json("2"),
    "JSON on two lines": _json("1") + "\n" + _json("2") + "\n",
    "JSON before YAML": _json("1") + "\n---\n" + _yaml("y"),
    "JSON twice before nonsense": _json("1") + _json("2") + " x",
    "JSON with a whole float": _json("1.0"),
    "JSON with an exponent": _json("1e3"),
    "JSON with a large number": _json("123456789012345678901"),
    "JSON with too large a number": _json("1e400"),
    "JSON with a field twice": _json('{"x":1,"x":2}'),
    "JSON with NaN": _json("NaN"),
    "JSON with half a character": _json('"\\ud800x"'),
    "JSON with a pair": _json('"\\ud83d\\ude00"'),
    "JSON with a trailing comma": _json("[1,]"),
    "JSON with single quotation marks": _json("'y'"),
    "JSON with an escaped slash": _json('"\\/"'),
    "JSON with a control character": _json('"\x01"'),
}
"""Whole files."""


def file_of(part: str) -> str:
    """A file whose resource holds a piece of YAML, under `spec.pod.patch`."""
    lines = "".join(f"      {line}\n" if line else "\n" for line in part.split("\n"))
    return f"{HEAD}spec:\n  pod:\n    patch:\n{lines}"
