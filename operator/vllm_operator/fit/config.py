"""A config.json of the Hugging Face hub, read into a `Model`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.errors import NotEstimable
from vllm_operator.fit import attention, mlp
from vllm_operator.fit.architecture import Layer, Model, dtype_bytes
from vllm_operator.fit.fields import Fields
from vllm_operator.fit.quantization import read_quantization
from vllm_operator.fit.tensors import Split, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TEXT_PARTS: Final = ("text_config", "llm_config", "language_config")
_ENCODERS: Final = frozenset({"bert", "roberta", "xlm-roberta", "distilbert", "modernbert", "nomic_bert", "new"})
_TIED: Final = frozenset(
    {
        *(
            "gemma",
            "gemma2",
            "gemma3",
            "gemma3_text",
            "gemma3n_text",
            "gemma4_text",
            "cohere",
            "cohere2",
            "gpt2",
            "opt",
        ),
        *("bloom", "falcon", "mpt", "gpt_bigcode", "starcoder2"),
    }
)
"""Models whose config.json need not say that the output layer is the embeddings: transformers takes it for granted."""

_LLAMA_7B: Final = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "llama": _LLAMA_7B,
    "mistral": _LLAMA_7B | {"intermediate_size": 14336, "num_key_value_heads": 8},
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
}
"""What transformers takes where the text part of a model of several parts leaves a number out (LlamaConfig,
MistralConfig, Gemma3TextConfig): the config.json of LLaVA and of Gemma 3 do."""

_LENGTHS: Final = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
_SCALED_ALREADY: Final = frozenset(
    {"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling", "default", "mrope"}
)
_MOST_LAYERS: Final = 4096


def read_model(config: Mapping[str, Any]) -> Model:
    """What a config.json says, as far as memory depends on it.

    Raises:
        NotEstimable: it is none, or describes a model that the estimate does not know.
    """
    model_type, fields = _text_part(config)
    attention.refuse_other_caches(fields)
    count = fields.number("num_hidden_layers", "n_layer", "num_layers", "n_layers")
    if count > _MOST_LAYERS:
        raise NotEstimable(f"config.json: {count} layers are more than any model has")
    windows = attention.windows(fields, count)
    generates = model_type not in _ENCODERS
    drafts = fields.optional("num_nextn_predict_layers") or 0
    quantization = read_quantization(config) or read_quantization(fields_of(config, "text_config"))
    return Model(
        architecture=next(iter(Fields(config, {}).texts("architectures")), model_type),
        model_type=model_type,
        dtype=_dtype(config, fields),
        hidden_size=_hidden(fields),
        vocab_size=_vocabulary(fields),
        attention_heads=attention.heads(fields),
        kv_heads=1 if attention.is_latent(fields) else attention.kv_heads(fields),
        inner_size=mlp.dense_size(fields),
        experts=mlp.experts(fields),
        experts_per_token=mlp.experts_per_token(fields),
        expert_size=mlp.expert_size(fields) if mlp.experts(fields) else 0,
        layers=tuple(_layer(fields, layer, windows[layer], generates=generates) for layer in range(count)),
        draft_layers=tuple(_draft_layer(fields, count + layer) for layer in range(drafts)),
        embeddings=tuple(_embeddings(fields, generates=generates)),
        head=(_vocabulary_tensor(fields, "lm_head"),) if generates else (),
        tied=not generates or _tied(config, fields, model_type),
        others=tuple(_encoder(config, "vision_config")),
        max_length=max_length(config, fields),
        quantization=quantization,
        notes=tuple(_notes(config, fields)),
    )


def fields_of(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object in a config.json; an empty one where there is none."""
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def _text_part(config: Mapping[str, Any]) -> tuple[str, Fields]:
    """The part that describes the language model, and its type."""
    if not isinstance(config, dict):
        raise NotEstimable("config.json must be an object")
    whole = fields_of(fields_of(config, "thinker_config"), "text_config") or next(
        (fields_of(config, name) for name in _TEXT_PARTS if fields_of(config, name)), config
    )
    model_type = str(whole.get("model_type") or config.get("model_type") or "")
    if not model_type:
        raise NotEstimable("config.json has no model_type: is it that of a model on the hub?")
    defaults = _DEFAULTS.get(model_type, {}) if whole is not config else {}
    return model_type, Fields(whole, {"model_type": model_type, **defaults})


def _layer(fields: Fields, layer: int, window: int | None, *, generates: bool) -> Layer:
    prefix = f"model.layers.{layer}"
    tensors = (
        *attention.tensors(fields, f"{prefix}.self_attn", window),
        *mlp.tensors(fields, f"{prefix}.mlp", layer),
        Tensor(name=f"{prefix}.norms", rows=2, columns=_hidden(fields), split=Split.NONE, linear=False),
    )
    count = fields.number("num_hidden_layers", "n_layer", "num_layers", "n_layers")
    shares = layer >= count - (fields.optional("num_kv_shared_layers") or 0)
    return Layer(tensors=tensors, cache=attention.cache(fields, window) if generates and not shares else None)


def _draft_layer(fields: Fields, layer: int) -> Layer:
    """A layer that guesses, as DeepSeek V3 has it: with embeddings, an output layer and a projection of its own."""
    prefix, hidden = f"model.layers.{layer}", _hidden(fields)
    extra = (
        _vocabulary_tensor(fields, f"{prefix}.embed_tokens"),
        _vocabulary_tensor(fields, f"{prefix}.shared_head.head"),
        Tensor(name=f"{prefix}.eh_proj", rows=hidden, columns=2 * hidden, split=Split.NONE, linear=False),
    )
    return Layer(tensors=(*_layer(fields, layer, None, generates=False).tensors, *extra), cache=None)


def _embeddings(fields: Fields, *, generates: bool) -> Iterator[Tensor]:
    yield _vocabulary_tensor(fields, "model.embed_tokens")
    if not generates or str(fields.get("model_type")) in {"gpt2", "opt"}:
        rows = fields.number("max_position_embeddings", "n_positions")
        yield Tensor(name="positions", rows=rows, columns=_hidden(fields), split=Split.NONE, linear=False)


def _vocabulary_tensor(fields: Fields, name: str) -> Tensor:
    return Tensor(name=name, rows=_vocabulary(fields), columns=_hidden(fields), split=Split.VOCABULARY, linear=False)


def _encoder(config: Mapping[str, Any], name: str) -> Iterator[Tensor]:
    """An encoder of images as a transformer: 4 matrices of attention and 2 of the MLP a layer, 3 where it has a gate.

    CLIP and SigLIP have none, and that of Qwen 2.5 VL has one.
    """
    part = Fields(fields_of(config, name), {})
    hidden = part.optional("embed_dim", "hidden_size")
    inner = part.optional("intermediate_size") or 4 * (hidden or 0)
    layers = part.optional("num_hidden_layers", "depth")
    wide = 3 if part.get("hidden_act") == "silu" else 2
    if hidden and layers:
        yield Tensor(
            name=name, rows=4 * hidden + wide * inner, columns=hidden, split=Split.TENSOR, copies=layers, linear=False
        )


def _hidden(fields: Fields) -> int:
    return fields.number("hidden_size", "n_embd", "d_model")


def _vocabulary(fields: Fields) -> int:
    return fields.number("padded_vocab_size", "vocab_size")


def _tied(config: Mapping[str, Any], fields: Fields, model_type: str) -> bool:
    told = fields.get("tie_word_embeddings")
    if told is None:
        told = config.get("tie_word_embeddings")
    return model_type in _TIED if told is None else bool(told)


def _dtype(config: Mapping[str, Any], fields: Fields) -> str:
    """The type of the numbers in the checkpoint; transformers has called it `dtype` since its version 5."""
    names = (fields.get("dtype"), fields.get("torch_dtype"), config.get("dtype"), config.get("torch_dtype"))
    told = str(next((name for name in names if name), "bfloat16")).removeprefix("torch.")
    dtype_bytes(told)
    return told


def max_length(config: Mapping[str, Any], fields: Fields) -> int | None:
    """Longest context in tokens, as vLLM derives it (_get_and_verify_max_len of config/model.py of 0.32).

    The smallest of the lengths that the config names, times the factor of its rotary embeddings unless their kind has
    it in the length already; LongRoPE counts with its original length.
    """
    lengths = [length for name in _LENGTHS if (length := fields.optional(name))]
    if not lengths:
        return None
    rope = fields.get("rope_parameters") or fields.get("rope_scaling")
    scaling = Fields(rope if isinstance(rope, dict) else {}, {})
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    if kind == "longrope":
        original = fields.optional("original_max_position_embeddings") or config.get("original_max_position_embeddings")
        return int(original) if isinstance(original, int) else min(lengths)
    factor = scaling.get("factor")
    if kind in _SCALED_ALREADY or "gemma3" in str(fields.get("model_type")) or not isinstance(factor, int | float):
        return min(lengths)
    return int(min(lengths) * factor)


def _notes(config: Mapping[str, Any], fields: Fields) -> Iterator[str]:
    if fields_of(config, "vision_config") or fields_of(config, "audio_config"):
        yield (
            "encoders of images and sounds are counted roughly, and what they keep while they work is not: "
            "spec.engine.multimodalLimits bounds it"
        )
    if fields.get("attention_chunk_size"):
        yield "attention in chunks keeps all tokens: vLLM switches its hybrid KV cache off for it"
    if fields.get("auto_map") or config.get("auto_map"):
        yield "the model brings code of its own: its weights are counted as a common decoder's"
