"""The `vllm serve` command line and its environment."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.api.spec import Engine, VLLMModelSpec

DRAIN_SECONDS: Final = 30
"""How long the server finishes requests in flight after SIGTERM; vLLM's own default aborts them at once."""

HOME: Final = "/home/vllm"
"""Writable for any user id; the caches of Hugging Face, vLLM, torch and triton all lie below it."""


def command(spec: VLLMModelSpec) -> list[str]:
    """The words of the command line. Only what is set appears: the rest is vLLM's own default.

    Flags are written in full: vLLM's parser accepts prefixes, and a newer version may make one ambiguous.
    """
    return ["vllm", "serve", *arguments(spec)]


def arguments(spec: VLLMModelSpec) -> list[str]:
    """What follows `vllm serve`."""
    words = [spec.model.source, "--served-model-name", *spec.served_names]
    for flag, value in _flags(spec):
        words += [flag] if value is True else [flag, _text(value)]
    return [*words, *(spec.engine.extra_args or [])]


def environment(engine: Engine) -> dict[str, str]:
    """The engine's environment; what the user sets wins."""
    base = {"HOME": HOME, "VLLM_NO_USAGE_STATS": "1"}
    if engine.debug:
        base["VLLM_LOGGING_LEVEL"] = "DEBUG"  # VLLM_DEBUG, which older guides name, does not exist
    return base | {variable.name: variable.value for variable in engine.env or []}


def _flags(spec: VLLMModelSpec) -> Iterator[tuple[str, bool | float | str]]:
    """Flags that are set, with their values, in a fixed order. True stands for a flag without a value."""
    model, engine, parallelism = spec.model, spec.engine, spec.parallelism
    candidates: list[tuple[str, bool | float | str | None]] = [
        ("--port", engine.port),
        ("--revision", model.revision),
        ("--trust-remote-code", model.trust_remote_code),
        ("--tensor-parallel-size", parallelism.tensor if parallelism.tensor > 1 else None),
        ("--pipeline-parallel-size", parallelism.pipeline if parallelism.pipeline > 1 else None),
        ("--max-model-len", engine.max_model_len),
        ("--max-num-batched-tokens", engine.max_num_batched_tokens),
        ("--gpu-memory-utilization", engine.gpu_memory_utilization),
        ("--cpu-offload-gb", engine.cpu_offload_gb),
        ("--block-size", engine.block_size),
        ("--enable-log-requests", engine.debug),
        ("--shutdown-timeout", DRAIN_SECONDS),
    ]
    for flag, value in candidates:
        if value is not None and value is not False:
            yield flag, value


def _text(value: float | str) -> str:
    """A number as its shortest text: `4`, not `4.0`, and never in scientific notation."""
    if isinstance(value, float):
        return format(Decimal(str(value)), "f").removesuffix(".0")
    return str(value)
