"""The ConfigMap `vllm-catalog`: the models of a namespace, where they answer, and what they are good for.

Its `catalog.json` has one model a line, so that people can read it too. docs/catalog.md has the format, and
`vllm_client.catalog` reads it.

What one ConfigMap has no room for is spread over up to eight, `vllm-catalog-2` and so on, each with its own file. A
model's part is told by its name's checksum alone, so that a change of one model is a write of one part. The first part
says how many there are; what stands in none of them is counted in its `truncated`.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any, Final, get_args

import orjson

from vllm_operator.api import names
from vllm_operator.api.conditions import ConditionType, by_type
from vllm_operator.api.live import LiveObject, Remembered
from vllm_operator.api.resource import readable_resource
from vllm_operator.api.spec.catalog import Catalog, Complexity
from vllm_operator.render.manager import pools
from vllm_operator.render.objects import shared
from vllm_operator.render.service import discovery, url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vllm_operator.api.resource import VLLMModel

FILE: Final = "catalog.json"

VERSION: Final = 1
"""Of the format. New fields leave it as it is; readers ignore those that they do not know."""

MAX_BYTES: Final = 900_000
"""Of all models in one file: a ConfigMap holds 1 MiB, and a model with everything set takes 14 KB."""

_FACTORS: Final = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
"""What the letters of vLLM's numbers stand for."""

_Entry = dict[str, Any]


def catalog(
    namespace: str, models: Iterable[LiveObject | Mapping[str, Any]], live: Iterable[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The catalogue of a namespace's models, which are as the API server has them: its parts, the first one first.

    Where a model has a spec that cannot be followed, its engines go on as they are: so does its entry, as far as the
    `live` catalogue holds one; only its readiness follows.
    """
    before = {name: entry for part in live for name, entry in _entries_of(part).items()}
    found = [_entry_of(raw, before) for raw in models]
    entries = sorted((entry for entry in found if entry), key=_name)
    return [
        shared(namespace, name, component="catalog", data={file_of(number): text})
        for number, (name, text) in enumerate(zip(names.CATALOG_PARTS, _texts(namespace, entries), strict=False), 1)
    ]


def file_of(part: int) -> str:
    """Name of a part's file, counted from 1: all of them can be mounted into one folder."""
    return FILE if part == 1 else FILE.replace(".", f"-{part}.")


def listed_adapters(parts: Iterable[Mapping[str, Any]], model: str) -> frozenset[str]:
    """Names of the adapters that a live catalogue lists for a model."""
    entries = (_entries_of(part).get(model, {}) for part in parts)
    return frozenset(str(name) for entry in entries for name in entry.get("adapters") or ())


def entry(model: VLLMModel, *, ready: bool, adapters: Sequence[str] = ()) -> _Entry:
    """What the catalogue says of a model. What is not known, or not said, is left out.

    Args:
        model: The model.
        ready: Whether an engine serves.
        adapters: Names of the adapters that every engine serves.
    """
    said = model.spec.catalog or Catalog()
    whole = {
        "name": model.name,
        "served_names": list(model.spec.served_names),
        "adapters": list(adapters),
        "base_url": url(model),
        "discovery": discovery(model),
        "runner": "pooling" if pools(model.spec) else "generate",
        "ready": ready,
        "context_length": tokens(model.spec.engine.max_model_len),
        "key_secret": names.binding_name(model.instance) if model.spec.auth else None,
        "languages": sorted(said.languages or ()),
        "complexity": [tier for tier in get_args(Complexity) if tier in (said.complexity or ())],
        "tasks": sorted(said.tasks or ()),
        "labels": dict(sorted((said.labels or {}).items())),
        "weight": said.weight,
    }
    return {field: value for field, value in whole.items() if value not in (None, [], {})}


def is_available(raw: Mapping[str, Any]) -> bool:
    """Whether at least one engine of a model serves, as its status says."""
    return by_type(raw.get("status", {})).get(ConditionType.AVAILABLE, {}).get("status") == "True"


def served_adapters(raw: Mapping[str, Any]) -> list[str]:
    """Names of the adapters that clients may ask for, as a model's status says, and its spec still."""
    wanted = {one.get("name") for one in (raw["spec"].get("lora") or {}).get("adapters") or ()}
    told = (raw.get("status") or {}).get("adapters") or ()
    return sorted(str(one.get("name")) for one in told if one.get("served") is True and one.get("name") in wanted)


def tokens(length: int | str | None) -> int | None:
    """A number of tokens as vLLM reads it (`32k` is 32,000, `32K` is 32,768); None where vLLM finds it out."""
    written = re.fullmatch(r"([0-9]+)([kKmMgG]?)", str(length))
    return int(written[1]) * _FACTORS.get(written[2], 1) if written else None


def is_entered(model: LiveObject) -> bool:
    """Whether the entry of a model is known, so that nothing of it has to be read."""
    return _read_once.knows(model)


def _entry_of(model: LiveObject | Mapping[str, Any], before: Mapping[str, _Entry]) -> _Entry | None:
    """A model's entry; None where its spec cannot be followed and never could."""
    if not isinstance(model, LiveObject):
        return _read(model) or _earlier(model, before)
    return _read_once(model) or _earlier(model.body, before)


def _read(raw: Mapping[str, Any]) -> _Entry | None:
    """The entry of a model whose spec can be followed."""
    model = readable_resource(raw)
    return entry(model, ready=is_available(raw), adapters=served_adapters(raw)) if model else None


_read_once: Final = Remembered(_read)


def _earlier(raw: Mapping[str, Any], before: Mapping[str, _Entry]) -> _Entry | None:
    """The entry that a model had before its spec could not be followed any more."""
    known = before.get(raw["metadata"]["name"])
    return {**known, "ready": is_available(raw)} if known else None


def _entries_of(part: Mapping[str, Any]) -> dict[str, _Entry]:
    """The entries of a live part by name; none where somebody has made it unreadable."""
    try:
        (text,) = part["data"].values()
        return {entry["name"]: entry for entry in orjson.loads(text)["models"]}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _texts(namespace: str, entries: Sequence[_Entry]) -> list[str]:
    """The files of the parts."""
    lines = {entry["name"]: orjson.dumps(entry).decode() for entry in entries}
    sizes = {name: len(line.encode()) + 2 for name, line in lines.items()}
    parts = [_fitting(part, sizes) for part in _parts(entries, sizes)]
    first = {"truncated": len(lines) - len(parts[0]), **({"parts": len(parts)} if len(parts) > 1 else {})}
    heads: list[dict[str, int]] = [first, *({"truncated": 0} for _ in parts[1:])]
    return [
        _text({"version": VERSION, "namespace": namespace, **head}, [lines[name] for name in lines if name in kept])
        for head, kept in zip(heads, parts, strict=True)
    ]


def _text(head: Mapping[str, Any], lines: Sequence[str]) -> str:
    models = ",\n".join(lines)
    return f'{orjson.dumps(head).decode()[:-1]},"models":[\n{models}\n]}}\n'


def _parts(entries: Sequence[_Entry], sizes: Mapping[str, int]) -> list[list[_Entry]]:
    """The entries by parts: as few as there is room in, or as many as there may be."""
    least = min(-(-sum(sizes.values()) // MAX_BYTES) or 1, names.MOST_CATALOG_PARTS)
    for count in range(least, names.MOST_CATALOG_PARTS):
        parts = _spread(entries, count)
        if all(sum(sizes[entry["name"]] for entry in part) <= MAX_BYTES for part in parts):
            return parts
    return _spread(entries, names.MOST_CATALOG_PARTS)


def _spread(entries: Sequence[_Entry], count: int) -> list[list[_Entry]]:
    parts: list[list[_Entry]] = [[] for _ in range(count)]
    for found in entries:
        parts[zlib.crc32(_name(found).encode()) % count].append(found)
    return parts


def _fitting(entries: Sequence[_Entry], sizes: Mapping[str, int]) -> set[str]:
    """Names of the models that there is room for: those that serve before those that do not, each by name."""
    kept, room = set(), MAX_BYTES
    for found in sorted(entries, key=lambda found: (not found["ready"], found["name"])):
        room -= sizes[found["name"]]
        if room < 0:
            break
        kept.add(found["name"])
    return kept


def _name(entry: _Entry) -> str:
    return str(entry["name"])
