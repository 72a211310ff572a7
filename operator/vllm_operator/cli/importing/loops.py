"""Servers that a `for` over a list starts: a model for each, or replicas of one where only their place differs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vllm_operator.cli.importing.shell import mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_operator.cli.importing.shell import Statement

_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)\}|\ue000\(seq (?:-w )?(\d+)(?: (\d+))?\ue001")
"""`{0..3}`, and `$(seq 0 3)` or `$(seq 4)` as the reader marks them."""

_MOST: Final = 64
_OF_PLACE: Final = frozenset({"--port", "-p", "--publish", "--name", "--gpus"})
_PORTS: Final = frozenset({"--port", "-p", "--publish"})
_DEVICES: Final = "CUDA_VISIBLE_DEVICES"


def unrolled(statement: Statement) -> list[Statement]:
    """A command once for each item of the list that its loop goes over, where the command names the item."""
    name, items = statement.over
    used, values = mark(name), [value for item in items for value in _values(item)]
    texts = [*statement.words, *statement.assigned.values()]
    if not 0 < len(values) <= _MOST or not any(used in text for text in texts):
        return [statement]
    return [
        replace(
            statement,
            words=[word.replace(used, value) for word in statement.words],
            assigned={name: text.replace(used, value) for name, text in statement.assigned.items()},
            loop="",
            over=("", ()),
        )
        for value in values
    ]


def _values(item: str) -> list[str]:
    found = _RANGE.fullmatch(item)
    if found is None:
        return [] if "\ue000" in item or "*" in item else [item]
    first, last = (found[1], found[2]) if found[2] else (found[3], found[4])
    low, high = (int(first), int(last)) if last else (1, int(first))
    return [str(number) for number in range(low, min(high, low + _MOST) + 1)]


def goes_over_list(statement: Statement) -> bool:
    """Whether its loop goes over a list that is known."""
    return any(_values(item) for item in statement.over[1])


def without_own_port(statement: Statement) -> Statement:
    """A command without ports that nobody has filled in: each replica has its own pod, and so the same port."""
    words: list[str] = []
    for word in statement.words:
        if words and words[-1] in _PORTS and "\ue000" in word:
            words.pop()
        elif "\ue000" not in word or word.partition("=")[0] not in _PORTS:
            words.append(word)
    return replace(statement, words=words)


def are_replicas(statements: Sequence[Statement]) -> bool:
    """Whether commands differ in nothing but their ports, names and devices."""
    return len({_elsewhere(statement) for statement in statements}) == 1


def _elsewhere(statement: Statement) -> tuple[object, ...]:
    """A command without what says where on the machine it is."""
    words: list[str] = []
    for before, word in zip(["", *statement.words], statement.words, strict=False):
        name, equals, _ = word.partition("=")
        if before not in _OF_PLACE and not (equals and name in {*_OF_PLACE, _DEVICES}):
            words.append(word)
    assigned = {name: value for name, value in statement.assigned.items() if name != _DEVICES}
    return (*words, *sorted(assigned.items()))
