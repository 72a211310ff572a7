"""What vLLM says at its start of its GPUs' memory: weights, KV cache, and for how much that has room. Pure.

The wording is that of `worker/gpu_model_runner.py`, `worker/gpu_worker.py`, `worker/cpu_worker.py` and
`core/kv_cache_utils.py` of vLLM's `v1` 0.32.0; older ones are beside it:

- 0.8.0 to 0.10 write `Model loading took 14.99 GiB and 3.1 seconds`, before them `Loading model weights took 14.99 GB`,
  which is GiB too. On CPU nothing is said of weights.
- 0.8.0 and newer write `GPU KV cache size` (`CPU`, `TPU`), before them the number of blocks, which is not read.
- `Maximum concurrency` had a line of its own before it came to stand behind the size.
- A KV cache whose size is given is told in other words than one that gets what is left, and on CPU in words of its own.

A pod may have several workers and several cores: each writes its own lines. Of weights the most counts, and of what is
left the least, as that is what bounds the engine.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

LINES = tuple(
    (word, re.compile(pattern), names)
    for word, pattern, names in (
        (b"Model loading took ", r"Model loading took ([\d.]+) Gi?B\b", ("weights_gib",)),
        (b"Loading model weights took ", r"Loading model weights took ([\d.]+) Gi?B\b", ("weights_gib",)),
        (b"Available KV cache memory", r"Available KV cache memory: ([\d.]+) GiB", ("kv_cache_gib",)),
        (b" GiB memory for", r"reserved ([\d.]+) GiB memory for KV Cache", ("kv_cache_gib",)),
        (b"GiB for KV cache", r"(?:Explicitly|Auto) set \(([\d.]+)/[\d.]+\) GiB for KV cache", ("kv_cache_gib",)),
        (b"KV cache size: ", r"KV cache size: ([\d,]+) tokens", ("kv_cache_tokens",)),
        (
            b"Maximum concurrency for ",
            r"Maximum concurrency for ([\d,]+) tokens per request: ([\d.]+)x",
            ("max_model_len", "max_concurrency"),
        ),
    )
)
"""A word that such a line holds, the pattern, and what its groups are."""

WORDS = tuple(word for word, *_ in LINES)

_WHOLE = ("kv_cache_tokens", "max_model_len")
_LARGEST = 1e15
"""What is larger is no figure of a GPU."""


@dataclass(frozen=True)
class Capacity:
    """Memory of one GPU of the engine; None where its log has not said it."""

    weights_gib: float | None = None
    kv_cache_gib: float | None = None
    kv_cache_tokens: int | None = None
    """For so many tokens the KV cache has room, in each copy of the model."""
    max_model_len: int | None = None
    """Longest sequence, in tokens."""
    max_concurrency: float | None = None
    """Sequences of that length for which there is room at the same time."""

    def as_dict(self) -> dict[str, float | int]:
        """What is known, by its name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def after_line(known: Capacity, words: Sequence[bytes], text: str) -> Capacity:
    """What is known after one more line.

    Args:
        known: Before it.
        words: Which of WORDS it holds, and others.
        text: The line.
    """
    for word, pattern, names in LINES:
        found = pattern.search(text) if word in words else None
        if found is not None:
            figures = dict(zip(names, map(_number, found.groups())))  # noqa: B905 # strict= is new in 3.10
            known = together(known, restored(figures))
    return known


def together(one: Capacity, other: Capacity) -> Capacity:
    """What two workers, cores or judges have said of one engine: the most weights, and the least of what is left."""
    return Capacity(
        weights_gib=_chosen(max, one.weights_gib, other.weights_gib),
        kv_cache_gib=_chosen(min, one.kv_cache_gib, other.kv_cache_gib),
        kv_cache_tokens=_chosen(min, one.kv_cache_tokens, other.kv_cache_tokens),
        max_model_len=_chosen(min, one.max_model_len, other.max_model_len),
        max_concurrency=_chosen(min, one.max_concurrency, other.max_concurrency),
    )


def restored(stored: object) -> Capacity:
    """What an earlier judge of whatever version has handed on; what is not understood is not known."""
    given = stored if isinstance(stored, dict) else {}
    names = {one.name for one in fields(Capacity)}
    found = {name: value for name, value in given.items() if name in names and _is_figure(value)}
    return Capacity(**{name: int(value) if name in _WHOLE else value for name, value in found.items()})


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:  # such as 1.2.3, or a lone comma
        return None


def _is_figure(value: object) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value <= _LARGEST
    )


def _chosen(choose: Callable[[list[Any]], Any], *values: float | None) -> Any:
    known = [value for value in values if value is not None]
    return choose(known) if known else None
