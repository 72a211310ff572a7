"""A shell's text is taken apart as a shell would do it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_operator.cli.importing.shell import ShellError, escaped, parsed, shown, variables_in

WORDS = st.lists(
    st.text(alphabet="aB1 $`'\"\\(){}[]&|;<>#~*?!=-:,.é\n\t", min_size=1, max_size=12), min_size=1, max_size=5
)

TEXTS = (
    "vllm serve a/b --x 1",
    "A=1\nB='x  y'\nvllm serve \"$A $B\" --z $B",
    "X=5\nvllm serve m \\\n  --a $X \\\n  --b \"${X}\" '$X' \\$X",
    'vllm serve m --j \'{"a": "b c"}\' --k "{\\"a\\": 1}"',
    "vllm serve m ${NONE:-fall back} ${NONE:-'quoted one'} ${SET:=x}",
    "# a comment\nvllm serve m # another\n",
    "vllm serve m --a=b\\ c 'it'\"'\"'s' $'tab\\there'",
    "ARGS='--a 1 --b'\nvllm serve m $ARGS \"$ARGS\" x$ARGS ${ARGS}y",
    "LIST=(--a 'x y'\n  --b)\nLIST+=(--c)\nvllm serve \"${LIST[@]}\" --d",
    "export V=3; vllm serve m -n $V",
)


def started(text: str) -> list[list[str]]:
    """The words of the commands of a text."""
    return [[shown(word) for word in statement.words] for statement in parsed(text).statements]


def started_by_bash(text: str) -> list[list[str]]:
    """The same, as a real shell has it; `vllm` is a function that prints its words."""
    bash = shutil.which("bash")
    assert bash
    program = 'vllm() { printf "%s\\0" vllm "$@"; printf "\\1"; }\n' + text
    done = subprocess.run([bash, "-c", program], env={"PATH": os.environ["PATH"]}, capture_output=True, check=True)
    return [part.split("\0")[:-1] for part in done.stdout.decode().split("\1")[:-1]]


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_those_of_a_real_shell(text: str) -> None:
    assert started(text) == started_by_bash(text)


@given(words=WORDS)
@settings(max_examples=200, deadline=None)
def test_what_is_quoted_comes_back_whatever_is_in_it(words: list[str]) -> None:
    assert started(f"vllm {shlex.join(words)}") == [["vllm", *words]]


@given(text=st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ShellError):
        assert parsed(text).statements is not None


def test_a_variable_that_nobody_fills_in_is_found() -> None:
    (statement,) = parsed('vllm serve $MODEL "${A}-$(date)"').statements
    assert [variables_in(word) for word in statement.words[2:]] == [["MODEL"], ["A", "(date"]]


def test_what_the_caller_knows_is_filled_in() -> None:
    (statement,) = parsed("vllm serve $MODEL", {"MODEL": "a/b"}).statements
    assert statement.words == ["vllm", "serve", "a/b"]


@pytest.mark.parametrize(
    ("text", "written"), [("a", "a"), ("$(A)", "$$(A)"), ("a$$b", "a$$$b"), ("$x", "$x"), ("$", "$")]
)
def test_kubelet_hands_an_escaped_text_on_unchanged(text: str, written: str) -> None:
    assert escaped(text) == written
