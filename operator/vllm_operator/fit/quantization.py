"""How many bytes quantized matrices take, by what `quantization_config` of a config.json says."""

from __future__ import annotations

import fnmatch
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.errors import NotEstimable

if TYPE_CHECKING:
    from collections.abc import Mapping

_BITS_IN_BYTE: Final = 8
_INTEGERS: Final = ("awq", "gptq", "auto-round", "gptq-marlin", "awq-marlin")
_FLOAT8: Final = ("fp8", "fbgemm-fp8", "modelopt", "modelopt-fp8", "ptpc-fp8")
_FLOAT4: Final = {"mxfp4": 32, "nvfp4": 16, "modelopt-fp4": 16}
"""Numbers that share a scale of one byte."""
_IGNORED: Final = ("ignore", "modules_to_not_convert", "ignored_layers", "exclude_modules", "llm_int8_skip_modules")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """One method, with all that the size of a matrix depends on."""

    method: str
    bits: int
    """Bits of one number."""
    group: int | None = None
    """Inputs that share a scale; None for one scale a row."""
    block: tuple[int, int] | None = None
    """Rows and columns that share a scale, for blocks."""
    scale_bytes: int = 2
    zero_points: bool = False
    """Whether each scale has a zero point, of `bits` bits."""
    order_bytes: int = 0
    """Bytes a column for the order of inputs (g_idx of GPTQ)."""
    cache_bytes: int | None = None
    """Bytes of one number of the KV cache that the checkpoint asks for; None for the model's own type."""
    ignored: tuple[str, ...] = ()
    """What is left as it is: names, parts of names, `re:` and patterns with `*`."""

    def covers(self, name: str) -> bool:
        """Whether the linear layer of this name is quantized."""
        return not any(_matches(pattern, name) for pattern in self.ignored)

    def matrix_bytes(self, rows: int, columns: int) -> int:
        """Bytes of a matrix with its scales and zero points."""
        numbers = math.ceil(rows * columns * self.bits / _BITS_IN_BYTE)
        if self.block:
            scales = math.ceil(rows / self.block[0]) * math.ceil(columns / self.block[1])
        else:
            scales = rows * (math.ceil(columns / self.group) if self.group else 1)
        zeros = math.ceil(scales * self.bits / _BITS_IN_BYTE) if self.zero_points else 0
        return numbers + scales * self.scale_bytes + zeros + self.order_bytes * columns


ONLINE: Final = {"fp8": Quantization(method="fp8", bits=8, scale_bytes=4)}
"""What --quantization makes of a checkpoint that is not quantized, while it is loaded."""


def read_quantization(config: Mapping[str, Any]) -> Quantization | None:
    """What `quantization_config` says; None where there is none.

    The layouts are those of vLLM 0.32 (model_executor/layers/quantization) and of the formats' own documentation: AWQ
    and GPTQ pack numbers into 32 bits and keep a 16-bit scale and a zero point for each group; GPTQ keeps a 32-bit
    group number for each input besides; FP8 has 32-bit scales for each block or row; MXFP4 a byte for 32 numbers,
    NVFP4 for 16.

    Raises:
        NotEstimable: the method is not known here.
    """
    found = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(found, dict):
        return None
    method = str(found.get("quant_method", "")).lower().replace("_", "-")
    common: dict[str, Any] = {"method": method, "ignored": _ignored(found), "cache_bytes": _cache_bytes(found)}
    if method in _INTEGERS:
        order = 4 if "gptq" in method else 0
        return Quantization(
            **common, bits=_number(found, "bits", 4), group=_group(found), zero_points=True, order_bytes=order
        )
    if method == "compressed-tensors":
        return _compressed(found, common)
    if method == "bitsandbytes":
        four = bool(found.get("load_in_4bit"))
        return Quantization(**common, bits=4 if four else 8, group=64 if four else None, scale_bytes=4)
    if method in _FLOAT4 or "FP4" in str(found.get("quant_algo")).upper():
        return Quantization(**common, bits=4, group=_FLOAT4.get(method, _FLOAT4["nvfp4"]), scale_bytes=1)
    if method in _FLOAT8:
        return Quantization(**common, bits=8, block=_block(found.get("weight_block_size")), scale_bytes=4)
    raise NotEstimable(
        f"config.json: quantization_config.quant_method {method!r} is not one that the estimate knows (awq, gptq, fp8, "
        "compressed-tensors, mxfp4, modelopt, bitsandbytes): read the size off the engine's log, `Model loading took`"
    )


def _compressed(found: Mapping[str, Any], common: dict[str, Any]) -> Quantization:
    groups = found.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = first.get("weights") if isinstance(first, dict) else None
    if not isinstance(weights, dict):
        raise NotEstimable(
            "config.json: quantization_config.config_groups names no weights: the estimate needs their bits"
        )
    bits = _number(weights, "num_bits", 8)
    group = _group(weights) if weights.get("strategy") in {"group", "tensor_group"} else None
    block = _block(weights.get("block_structure")) if weights.get("strategy") == "block" else None
    small_scales = weights.get("type") == "float" and bits == 4  # noqa: PLR2004 # NVFP4 and MXFP4: a byte a scale
    return Quantization(
        **common,
        bits=bits,
        group=group,
        block=block,
        scale_bytes=1 if small_scales else 2,
        zero_points=weights.get("symmetric") is False,
    )


def _cache_bytes(found: Mapping[str, Any]) -> int | None:
    """Bytes of a number of the KV cache, as vLLM reads them (get_kv_cache_quant_algo_string of torch_utils.py)."""
    scheme = found.get("kv_cache_scheme")
    algorithm = str(found.get("kv_cache_quant_algo") or "").upper()
    if algorithm == "FP8" or (isinstance(scheme, dict) and scheme.get("num_bits") == _BITS_IN_BYTE):
        return 1
    return None


def _ignored(found: Mapping[str, Any]) -> tuple[str, ...]:
    lists = (found.get(name) for name in _IGNORED)
    return tuple(str(pattern) for one in lists if isinstance(one, list) for pattern in one)


def _matches(pattern: str, name: str) -> bool:
    if pattern.startswith("re:"):
        return _searches(pattern[3:], name)
    if "*" in pattern:
        return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")
    return f".{pattern}." in f".{name}."


def _searches(pattern: str, name: str) -> bool:
    try:
        return re.match(pattern, name) is not None
    except re.error as error:
        raise NotEstimable(
            f"config.json: quantization_config: re:{pattern} is no regular expression: {error}"
        ) from None


def _number(part: Mapping[str, Any], name: str, default: int) -> int:
    value = part.get(name, default)
    if not isinstance(value, int) or not 1 <= value <= 32:  # noqa: PLR2004 # no format has wider numbers
        raise NotEstimable(f"config.json: quantization_config: {name} is {value!r} and must be a number of bits")
    return value


def _group(part: Mapping[str, Any]) -> int | None:
    """Inputs in a group; -1 stands for all of them."""
    value = part.get("group_size", part.get("q_group_size", 128))
    return value if isinstance(value, int) and value > 0 else None


def _block(value: Any) -> tuple[int, int] | None:
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(one, int) and one > 0 for one in value):  # noqa: PLR2004 # rows, columns
        return value[0], value[1]
    return None
