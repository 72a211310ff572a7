"""Resources that went wrong: valid ones, changed at random places in ways that people, templates and machines do it."""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

Place = tuple[Any, Any]
"""A map or list, and the key of one value in it."""

OTHER_TYPES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    0.5,
    "",
    "x",
    "1",
    "true",
    [],
    {},
    [None],
    [[]],
    {"a": {}},
    {"": 1},
)
HUGE: Final = (
    2**31,
    2**63 - 1,
    2**63,
    10**30,
    -(2**63),
    1e308,
    1e-308,
    "x" * 70_000,
    "9" * 400,
    "1e999999999",
    "1" * 30 + "Gi",
)
TEXTS: Final = (
    "-1",
    "-1Gi",
    "--host",
    " x",
    "x ",
    "x\n",
    "\u00a0x",
    "x\u2003y",
    "\u00e9t\u00e9",
    "\U0001f916",
    "\u0000",
    "\ud800",
    "\ufeffx",
    "\u2028",
    "$(HOME)",
    "../..",
    "/..",
    "pvc://a/../b",
    "oci://",
    "hf://",
    "s3://",
    "{{",
    "{% for %}",
    "\u0661",
    "1Ki",
    "1e3",
    "0x10",
    "auto",
    "null",
)
NAMES: Final = ("unknown", "Source", "$patch", "", "a.b", "a/b", "__proto__", "\u00e9", "metadata", "spec", "name")
FLOATS: Final = (0.5, 1.5, 2.0, 1e3, 1e16, 2.0**53, 2.0**53 + 2, 1e20, 1e21, -0.0, 1e-9, 0.1 + 0.2, 3 - 1e-15)
LARGE: Final = 10_000
HOW_OFTEN: Final = (1, 1, 1, 2, 3)


def mutated(resource: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A copy with one to three changes in its spec."""
    found = copy.deepcopy(resource)
    for _ in range(chance.choice(HOW_OFTEN)):
        places = list(_places(found, "spec"))
        if places:
            holder, key = chance.choice(places)
            chance.choice(MUTATIONS)(holder, key, chance)
    return found


def _places(holder: Any, key: Any) -> Iterator[Place]:
    yield holder, key
    value = holder[key]
    inner = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for one in inner:
        yield from _places(value, one)


def _delete(holder: Any, key: Any, _: random.Random) -> None:
    if key != "spec":
        del holder[key]


def _confuse(holder: Any, key: Any, chance: random.Random) -> None:
    holder[key] = copy.deepcopy(chance.choice(OTHER_TYPES))


def _enlarge(holder: Any, key: Any, chance: random.Random) -> None:
    value = holder[key]
    if len(json.dumps(value)) > LARGE:  # a request of megabytes is cut off before anybody reads it
        return
    if isinstance(value, list) and value:
        holder[key] = [copy.deepcopy(chance.choice(value)) for _ in range(chance.choice((2, 70, 200)))]
    elif isinstance(value, dict) and value:
        example = next(iter(value.values()))
        value.update({f"key{number}": copy.deepcopy(example) for number in range(chance.choice((2, 20, 100)))})
    else:
        holder[key] = chance.choice(HUGE)


def _rewrite(holder: Any, key: Any, chance: random.Random) -> None:
    value, text = holder[key], chance.choice(TEXTS)
    holder[key] = value + text if isinstance(value, str) and chance.random() < 0.5 else text


def _negate(holder: Any, key: Any, chance: random.Random) -> None:
    value = holder[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    holder[key] = -value if number else -chance.randrange(100)


def _double(holder: Any, key: Any, _: random.Random) -> None:
    value = holder[key]
    if isinstance(value, list):
        value.extend(copy.deepcopy(value))
    elif isinstance(holder, list):
        holder.append(copy.deepcopy(value))
    elif isinstance(value, str):
        holder[key] = value * 2
    else:
        holder[key] = [value, value]


def _add(holder: Any, key: Any, chance: random.Random) -> None:
    value = holder[key]
    if isinstance(value, dict):
        value[chance.choice(NAMES)] = copy.deepcopy(chance.choice((*OTHER_TYPES, *TEXTS)))
    elif isinstance(value, list):
        value.append(copy.deepcopy(chance.choice(OTHER_TYPES)))
    else:
        holder[key] = {chance.choice(NAMES): value}


def _rename(holder: Any, key: Any, chance: random.Random) -> None:
    if isinstance(holder, dict) and key != "spec":
        holder[chance.choice((key.upper(), key.capitalize(), key + "s", chance.choice(NAMES)))] = holder.pop(key)


def _swap(holder: Any, key: Any, chance: random.Random) -> None:
    """Put what stands elsewhere here: a value that is right in its own place."""
    if isinstance(holder, dict) and key != "spec":
        other = chance.choice(list(holder))
        holder[key], holder[other] = holder[other], holder[key]


def _null(holder: Any, key: Any, _: random.Random) -> None:
    """A template that renders nothing."""
    if key != "spec":
        holder[key] = None


def _snake(holder: Any, key: Any, _: random.Random) -> None:
    """The name of a field as Python has it."""
    if isinstance(holder, dict) and key != "spec":
        holder[re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", key)] = holder.pop(key)


def _float(holder: Any, key: Any, chance: random.Random) -> None:
    """A number with a point or an exponent, whole or not."""
    value = holder[key]
    whole = isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.5
    holder[key] = float(value) if whole else chance.choice(FLOATS)


MUTATIONS: Final[tuple[Callable[[Any, Any, random.Random], None], ...]] = (
    _delete,
    _confuse,
    _enlarge,
    _rewrite,
    _negate,
    _double,
    _add,
    _rename,
    _swap,
    _null,
    _snake,
    _float,
)
