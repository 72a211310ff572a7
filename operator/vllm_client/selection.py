"""Which model suits a request best: what must hold, and what is preferred. Pure.

A model can be chosen only if all of this holds:

    adapter      it has the LoRA adapter of that name
    runner       it is of the kind that is asked for: `generate` unless told otherwise
    labels       it has every label that is asked for, with that value
    task         it lists the task, or lists none at all
    language     it lists the language, or one of its family (`zh` for `zh-TW`), or lists none at all
    exclude      it is not excluded by name

Of those, the first by this order is the best:

    1. ready before not ready
    2. language: the very tag, then a more general one (`zh` for `zh-TW`), then another one of its family (`zh-CN` for
       `zh-TW`), then a model that lists none
    3. task: one that lists it, then one that lists none
    4. complexity: the very tier, then a model that lists none, then the next tier up, the one after, and then down
    5. the greater weight
    6. the name, so that the choice is always the same
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import takewhile
from typing import TYPE_CHECKING, TypedDict

from vllm_client.catalog import COMPLEXITIES, CatalogEntry
from vllm_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_OTHER_WORDS = {"low": COMPLEXITIES[0], "high": COMPLEXITIES[-1]}
_OTHER_OF_FAMILY = 50
_UNLISTED_LANGUAGE = 100
"""Distances that are farther than what comes before them: a tag of 35 characters has 18 parts at most."""
_FARTHEST_TIER = 1 + 2 * len(COMPLEXITIES)


class Needs(TypedDict, total=False):
    """The fields of `Need`, as arguments by name."""

    language: str | None
    complexity: str | None
    task: str | None
    labels: Mapping[str, str] | None
    adapter: str | None
    runner: str
    exclude: Collection[str]


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a request needs of a model. What is None does not matter.

    Attributes:
        language: BCP 47 tag, such as `en` or `zh-TW`.
        complexity: One of COMPLEXITIES, or `low` or `high` for the first or the last of them.
        task: What is to be done, in the words of `spec.catalog.tasks`.
        labels: Labels that the model must have.
        adapter: Name of the LoRA adapter that is to answer.
        runner: `generate` or `pooling`.
        exclude: Names of models that must not be chosen.

    Raises:
        ConfigurationError: There is no such complexity.
    """

    language: str | None = None
    complexity: str | None = None
    task: str | None = None
    labels: Mapping[str, str] | None = None
    adapter: str | None = None
    runner: str = "generate"
    exclude: Collection[str] = ()

    def __post_init__(self) -> None:
        """Check the tier: a misspelt one would match nothing, and nobody would notice."""
        object.__setattr__(self, "complexity", _OTHER_WORDS.get(self.complexity or "", self.complexity))
        if self.complexity is not None and self.complexity not in COMPLEXITIES:
            raise ConfigurationError(
                f"there is no complexity {self.complexity!r}",
                variable="complexity",
                advice=f"Ask for one of {', '.join(COMPLEXITIES)}",
            )

    def __str__(self) -> str:
        """What is asked for, in a few words."""
        said = ((wanted.name, getattr(self, wanted.name)) for wanted in fields(self))
        return ", ".join(f"{name}={sorted(value) if name == 'exclude' else value!r}" for name, value in said if value)


def ranked(models: Sequence[CatalogEntry], need: Need) -> tuple[CatalogEntry, ...]:
    """The models that can be chosen, the best first."""
    return tuple(sorted((model for model in models if _suits(model, need)), key=lambda model: _order(model, need)))


def _suits(model: CatalogEntry, need: Need) -> bool:
    return (
        model.runner == need.runner
        and model.name not in need.exclude
        and (need.adapter is None or need.adapter in model.adapters)
        and (need.labels or {}).items() <= model.labels.items()
        and (need.task is None or not model.tasks or need.task in model.tasks)
        and _language_distance(model.languages, need.language) is not None
    )


def _order(model: CatalogEntry, need: Need) -> tuple[bool, int, bool, int, int, str]:
    return (
        not model.ready,
        _language_distance(model.languages, need.language) or 0,
        need.task is not None and need.task not in model.tasks,
        _tier_distance(model.complexity, need.complexity),
        -model.weight,
        model.name,
    )


def _language_distance(listed: Sequence[str], wanted: str | None) -> int | None:
    """How far a model's languages are from the one that is asked for; None where it is for others only."""
    if wanted is None:
        return 0
    if not listed:
        return _UNLISTED_LANGUAGE
    distances = [_tag_distance(tag.lower().split("-"), wanted.lower().split("-")) for tag in listed]
    return min((distance for distance in distances if distance is not None), default=None)


def _tag_distance(listed: list[str], wanted: list[str]) -> int | None:
    """How many parts differ; a listed tag that is the beginning of the wanted one comes first (RFC 4647, lookup)."""
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(listed, wanted, strict=False)))
    if not common:
        return None
    differing = len(listed) + len(wanted) - 2 * common
    return differing if common == len(listed) else _OTHER_OF_FAMILY + differing


def _tier_distance(listed: Sequence[str], wanted: str | None) -> int:
    if wanted is None or wanted in listed:
        return 0
    if not listed:
        return 1
    at = COMPLEXITIES.index(wanted)
    return min(
        (_step(COMPLEXITIES.index(tier) - at) for tier in listed if tier in COMPLEXITIES), default=_FARTHEST_TIER
    )


def _step(tiers_up: int) -> int:
    """Up before down: a model that is too good answers too, one that is too small answers badly."""
    return 1 + tiers_up if tiers_up > 0 else 1 + len(COMPLEXITIES) - tiers_up
