"""Which branches of a script are read."""

from __future__ import annotations

import pytest

from vllm_operator.cli.importing.conditions import judged
from vllm_operator.cli.importing.shell import parsed


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('[ -n "" ]', False),
        ('[ -z "" ]', True),
        ("[ 2 -gt 1 ]", True),
        ("[ 2 -lt 1 ]", False),
        ("[[ a == a ]]", True),
        ("[[ a != a ]]", False),
        ("test a = b", False),
        ("! [ a = b ]", True),
        ("[[ a == a* ]]", None),
        ('[ "$UNSET" = b ]', None),
        ("[ -d /models ]", None),
        ("grep -q a b", None),
        ("[ one -eq 1 ]", None),
    ],
)
def test_what_a_condition_says(condition: str, *, holds: bool | None) -> None:
    [statement] = parsed(condition).statements
    assert judged(statement.words) is holds


def ran(text: str) -> list[str]:
    """The commands that are not keywords, as they are read."""
    return [" ".join(one.words) for one in parsed(text).statements if one.words[0] in {"run", "then", "else"}]


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("N=0\nif [ $N -eq 0 ]; then\nrun a\nelse\nrun b\nfi\nrun c", ["then", "run a", "run c"]),
        ("N=1\nif [ $N -eq 0 ]; then\nrun a\nelse\nrun b\nfi\nrun c", ["else", "run b", "run c"]),
        ("if [ $N -eq 0 ]; then\nrun a\nelse\nrun b\nfi", ["then", "run a", "else", "run b"]),
        ("if [ 1 = 2 ] || [ 1 = 1 ]; then\nrun a\nfi", ["then", "run a"]),
        ("if [ 1 = 2 ] && [ $N = 1 ]; then\nrun a\nfi\nrun b", ["run b"]),
        ("if [ 1 = 2 ]; then\nrun a\nelif [ 1 = 1 ]; then\nrun b\nelse\nrun c\nfi", ["then", "run b"]),
        ("if [ 1 = 1 ]; then\nrun a\nelif [ 1 = 1 ]; then\nrun b\nelse\nrun c\nfi", ["then", "run a"]),
        ("if [ 1 = 2 ]; then\nif [ 1 = 1 ]; then\nrun a\nfi\nrun b\nfi\nrun c", ["run c"]),
        ("fi\nrun a", ["run a"]),
    ],
)
def test_a_branch_that_cannot_be_taken_is_left_out(text: str, runs: list[str]) -> None:
    assert ran(text) == runs


def test_what_is_assigned_in_a_branch_that_is_not_taken_is_not() -> None:
    text = 'P=""\nC="a"\nif [ -n "$P" ]; then\nC="b"\nfi\nrun $C'
    assert ran(text) == ["run a"]
