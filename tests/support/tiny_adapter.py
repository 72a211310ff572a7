"""A LoRA adapter for the tiny Llama: all zeros, so that it answers as the model does under another name.

Standard library only; the format of safetensors is a length, a JSON header and the numbers.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

from tests.support import tiny_llama

if TYPE_CHECKING:
    from pathlib import Path

RANK = 8
BYTES = 2
"""Of a bfloat16."""


def write_adapter(folder: Path) -> None:
    """Write the adapter's folder as PEFT does."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": RANK,
        "lora_alpha": RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    size = tiny_llama.HIDDEN
    header, place = {}, 0
    for layer in range(tiny_llama.LAYERS):
        for part, shape in (("lora_A", (RANK, size)), ("lora_B", (size, RANK))):
            name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.{part}.weight"
            end = place + shape[0] * shape[1] * BYTES
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (place, end)}
            place = end
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(place))
