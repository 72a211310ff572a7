"""What describes a model before it is loaded: config.json and the size of its weights, as a ConfigMap holds them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.errors import NotEstimable
from vllm_operator.fit.checkpoint import Checkpoint, checkpoint_of_index, json_object, read_index

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG: Final = "config.json"
INDEX: Final = "model.safetensors.index.json"

_MOST_NAMES_BYTES: Final = 500_000
"""Of an index in a ConfigMap, which holds 1 MiB at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What is known of a model before it is loaded."""

    config: dict[str, Any]
    checkpoint: Checkpoint | None
    """None where nothing tells the size of the weights: parameters are counted instead."""
    source: str


def described_in(data: Mapping[str, str], source: str) -> Described:
    """Read the content of a ConfigMap; `source` says to people which.

    Raises:
        NotEstimable: it is not what it should be; the message says what to do.
    """
    if CONFIG not in data:
        raise NotEstimable(
            f"{source} has no key {CONFIG}: `kubectl vllm estimate -f MODEL.yaml -o configmap` prints one that has"
        )
    index = read_index(data[INDEX]) if INDEX in data else None
    return Described(
        config=json_object(data[CONFIG], f"{CONFIG} of {source}"),
        checkpoint=checkpoint_of_index(index, f"{INDEX} of {source}") if index else None,
        source=source,
    )


def data_of(described: Described) -> dict[str, str]:
    """The content of a ConfigMap from which the same is read.

    Tensors' names are left out where they are too many, as those of some hundred experts are: the estimate then takes
    for granted that the files hold what the config says.
    """
    found = {CONFIG: json.dumps(described.config, indent=2, ensure_ascii=False) + "\n"}
    checkpoint = described.checkpoint
    if checkpoint is None:
        return found
    metadata: dict[str, Any] = {"total_size": checkpoint.total_bytes}
    if checkpoint.float_bytes is not None:
        metadata["float_bytes"] = checkpoint.float_bytes
    index: dict[str, Any] = {"metadata": metadata}
    whole = json.dumps({**index, "weight_map": dict.fromkeys(sorted(checkpoint.names), "")})
    return {**found, INDEX: (whole if len(whole) <= _MOST_NAMES_BYTES else json.dumps(index)) + "\n"}
