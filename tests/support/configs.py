"""The config.json of well-known models, and the published size of their weights (tests/data/fit).

Each file holds what the model's own config.json says of its shape, and the size of its weights on the hub:
`total_size` of its model.safetensors.index.json, or what its parameters take. The sizes were found again in public
repositories, but for those of llama-2-13b-chat and of the two AWQ models, which nobody else had written down.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.cluster.paths import REPOSITORY
from vllm_operator.fit.config import read_model

if TYPE_CHECKING:
    from vllm_operator.fit.architecture import Model

FOLDER = REPOSITORY / "tests" / "data" / "fit"
NAMES = sorted(file.stem for file in FOLDER.glob("*.json"))

TINY: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "vocab_size": 1024,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
"""A Llama whose figures can be computed by hand."""


def config(name: str) -> dict[str, Any]:
    """The config.json of a well-known model."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["config"]
    return found


def published_bytes(name: str) -> int:
    """The size of its weights, as they are published."""
    return int(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["total_size"])


def known(name: str) -> Model:
    """A well-known model."""
    return read_model(config(name))


def tiny(**fields: Any) -> Model:
    """The tiny Llama with other fields."""
    return read_model({**TINY, **fields})
