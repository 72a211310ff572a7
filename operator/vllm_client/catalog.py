"""The catalogue of a namespace: its models, where they answer and what they are good for. Pure.

The operator writes it as `catalog.json` into the ConfigMap `vllm-catalog`; docs/catalog.md describes every field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vllm_client.errors import ConfigurationError

VERSION = 1
"""The format that this library reads. New fields do not change it: those that are not known are ignored."""

COMPLEXITIES = ("simple", "medium", "complex")
"""How hard a request is, from the easiest to the hardest."""
DEFAULT_WEIGHT = 100
VARIABLE = "VLLM_CATALOG"

_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("name", "base_url", "discovery", "runner", "key_secret"), str),
    **dict.fromkeys(("served_names", "adapters", "languages", "complexity", "tasks"), (list, tuple)),
    **dict.fromkeys(("context_length", "weight"), int),
    "ready": bool,
    "labels": Mapping,
}
"""What the fields of a model have to be."""


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """One model.

    Attributes:
        name: Name of its VLLMModel.
        served_names: Names under which its engines answer, the main one first.
        adapters: Names of LoRA adapters that every one of its engines answers under besides.
        base_url: Where they answer, ending in /v1.
        discovery: Name and port under which DNS has the single engines; empty where none are known.
        runner: `generate` for models that write, `pooling` for those that embed, score or classify.
        ready: Whether an engine served when the catalogue was written.
        context_length: Tokens of a prompt and its answer, where the resource says it.
        key_secret: Secret of the namespace that has the API key as VLLM_API_KEY; empty where no key is asked for.
        languages: BCP 47 tags that it is for; none means any.
        complexity: Tiers of COMPLEXITIES that it is for; none means any.
        tasks: Tasks that it is for; none means any.
        labels: Whatever else there is to choose by.
        weight: Preference among models that suit equally well; more is better.
    """

    name: str
    served_names: tuple[str, ...]
    base_url: str
    adapters: tuple[str, ...] = ()
    discovery: str = ""
    runner: str = "generate"
    ready: bool = False
    context_length: int | None = None
    key_secret: str = ""
    languages: tuple[str, ...] = ()
    complexity: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    weight: int = DEFAULT_WEIGHT

    @property
    def model_name(self) -> str:
        """The name to ask for."""
        return self.served_names[0]


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """The models of a namespace.

    Attributes:
        namespace: The namespace.
        models: Its models, by name.
        truncated: How many there was no room for.
        parts: Over how many files they are spread; this is the first of them, or all together.
    """

    namespace: str
    models: tuple[CatalogEntry, ...]
    truncated: int = 0
    parts: int = 1


def parse_catalog(content: object, *, place: str = "the catalogue") -> Catalog:
    """Read the content of `catalog.json`. `place` says where it is from, for errors.

    Raises:
        ConfigurationError: It is no catalogue, or of a format that this library does not know.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("models"), Sequence):
        raise _unreadable(place, "it is no mapping with a list of `models`")
    version = content.get("version")
    if version != VERSION:
        raise _unreadable(place, f"its version is {version!r}, and this library reads {VERSION}")
    models = [_entry(found, f"{place}: models[{position}]") for position, found in enumerate(content["models"])]
    return Catalog(
        namespace=str(content.get("namespace", "")),
        models=tuple(sorted(models, key=lambda model: model.name)),
        truncated=_count(content.get("truncated")),
        parts=_count(content.get("parts")) or 1,
    )


def joined(first: Catalog, others: Iterable[Catalog]) -> Catalog:
    """One catalogue of its parts. What is missing of them counts as what there was no room for.

    Parts are not written at the same moment: a model that has just moved may stand in two of them.
    """
    models = {model.name: model for part in (*others, first) for model in part.models}
    missing = first.truncated - (len(models) - len(first.models))
    return replace(first, models=tuple(models[name] for name in sorted(models)), truncated=max(missing, 0))


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _entry(found: Any, place: str) -> CatalogEntry:
    if not isinstance(found, Mapping):
        raise _unreadable(place, "it is no mapping")
    missing = [name for name in ("name", "served_names", "base_url") if not found.get(name)]
    if missing:
        raise _unreadable(place, f"it has no {' and no '.join(missing)}")
    return CatalogEntry(**{name: _value(name, found[name], place) for name in _TYPES if name in found})


def _value(name: str, value: Any, place: str) -> Any:
    if not isinstance(value, _TYPES[name]):
        raise _unreadable(place, f"its {name} is {value!r}")
    return tuple(map(str, value)) if isinstance(value, list | tuple) else value


def _unreadable(place: str, problem: str) -> ConfigurationError:
    advice = (
        "Take the key catalog.json of the ConfigMap vllm-catalog as it is, and a library as new as the operator that "
        "writes it"
    )
    return ConfigurationError(f"{place} cannot be read: {problem}", variable=VARIABLE, advice=advice)
