"""A tiny random Llama, written without torch: 1 MB, made in a second, the same bytes every time.

The real engine serves it in tests and in the demo. Its vocabulary is the 256 bytes and a list of words; the output
layer favours the words, so that what it says is nonsense but legible, and an end-of-text is improbable: an answer is as
long as `max_tokens` asks for.
"""

from __future__ import annotations

import json
import math
import random
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = 128
HEADS = 4
LAYERS = 2
INNER = 256
POSITIONS = 4096
SEED = 20260101

SPECIAL = ("<|begin|>", "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>")
STEMS = "amber birch cedar delta ember fjord grove haven inlet jade kelp larch maple north ocean pearl river stone tide"
ENDS = "bank field gate hill land mark path rise side wood yard"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_alphabet() -> list[str]:
    """The printable stand-ins of the 256 bytes, as byte-level tokenizers write them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def vocabulary() -> list[str]:
    """Special tokens, bytes, then words that start with a space (written as its stand-in)."""
    words = [f"\u0120{stem}{end}" for stem in STEMS.split() for end in ENDS.split()]
    return [*SPECIAL, *byte_alphabet(), *words]


def tokenizer() -> dict[str, object]:
    """The fast tokenizer: byte-level, without merges, so that a prompt of n characters has n tokens."""
    special = [
        {
            "id": number,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for number, text in enumerate(SPECIAL)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    vocab = {token: number for number, token in enumerate(vocabulary())}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }


def config() -> dict[str, object]:
    """The model's architecture, as transformers writes it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": POSITIONS,
        "vocab_size": len(vocabulary()),
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }


def shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (len(vocabulary()), HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        found |= {f"{prefix}self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"}
        found |= {f"{prefix}mlp.{name}_proj.weight": (INNER, HIDDEN) for name in ("gate", "up")}
        found[f"{prefix}mlp.down_proj.weight"] = (HIDDEN, INNER)
        found |= {f"{prefix}{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
    return found | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (len(vocabulary()), HIDDEN)}


def bfloat16(values: list[float]) -> bytes:
    """The upper half of each 32-bit float, little-endian."""
    whole = struct.pack(f"<{len(values)}f", *values)
    return b"".join(whole[at + 2 : at + 4] for at in range(0, len(whole), 4))


def tensor(name: str, shape: tuple[int, ...], source: random.Random) -> bytes:
    """Norms are one, bytes and special tokens are never favoured by the output layer, the rest is noise."""
    size = math.prod(shape)
    if name.endswith("norm.weight"):
        return bfloat16([1.0] * size)
    if name == "lm_head.weight":
        quiet = (len(SPECIAL) + 256) * HIDDEN
        return bfloat16([0.0] * quiet + [source.gauss(0, 0.5) for _ in range(size - quiet)])
    scale = 1.0 if name.startswith("model.embed") else 0.15
    return bfloat16([source.gauss(0, scale) for _ in range(size)])


def weights() -> bytes:
    """A safetensors file: length of the header, the header, the tensors."""
    source = random.Random(SEED)  # noqa: S311 - reproducible on purpose
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    blocks: list[bytes] = []
    position = 0
    for name, shape in shapes().items():
        block = tensor(name, shape, source)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, position + len(block)]}
        blocks.append(block)
        position += len(block)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(blocks)


def write_model(folder: Path) -> None:
    """Write the whole model into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "pad_token": SPECIAL[2],
        "model_max_length": POSITIONS,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    files = {"config.json": config(), "tokenizer.json": tokenizer(), "tokenizer_config.json": settings}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(weights())
