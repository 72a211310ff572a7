"""Ask vLLM how it would lay out the memory of models that are nothing but a config.json, without starting an engine.

    answers = vllm_memory({"llama": Question(config={...})}, folder)
    assert answers["llama"].token_bytes == 512

Importing vLLM takes ten seconds and a tiny model of random weights a fraction of one, so one process answers for all
models. It is this same file, run by the engine's interpreter: outside `vllm_memory` nothing of the tests is imported.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

MEMORY_BYTES = 64 * 2**20
"""Memory that the KV cache of each model gets."""
DEGREES = (1, 2, 4, 8)
"""Tensor parallelism for which KV heads are asked."""
LAYOUT = "LBNHC"
"""Layers first, as most backends on GPUs and on CPU have it; an engine asks its workers for it."""


@dataclasses.dataclass(frozen=True)
class Question:
    """One model."""

    config: dict[str, Any]
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Further fields of vLLM's EngineArgs."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What vLLM makes of it."""

    token_bytes: float
    """KV cache of one token, over all layers."""
    block_tokens: int
    sequences: float
    """Maximum concurrency with `MEMORY_BYTES`."""
    tokens: int
    """KV cache size, as it is printed."""
    max_model_len: int
    in_flight_tokens: int
    parameter_bytes: int
    """All parameters of the model, as they are before its weights are loaded."""
    kv_heads: dict[str, int]
    """KV heads on each GPU, by tensor parallelism."""


def vllm_memory(questions: dict[str, Question], folder: Path) -> dict[str, Answer]:
    """The answers; models are written into the folder.

    Raises:
        RuntimeError: The real engine is not installed, or the process has failed; the message says why.
    """
    from tests.support.vllm_cpu import engine_environment, real_engine  # noqa: PLC0415 # not there in the process

    engine = real_engine().require()
    environment = {"PATH": os.environ["PATH"], "VLLM_LOGGING_LEVEL": "ERROR", **engine_environment(folder)}
    asked = json.dumps({name: dataclasses.asdict(question) for name, question in questions.items()})
    command = [str(engine.venv / "bin" / "python"), "-P", __file__, str(folder)]
    done = subprocess.run(command, input=asked, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"vLLM did not answer:\n{done.stderr[-4000:]}")
    return {name: Answer(**answer) for name, answer in json.loads(done.stdout.splitlines()[-1]).items()}


# ----------------------------------------------------------------------------------------- what the process itself runs


def answer_of(name: str, question: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Build one model as an engine's worker does, and lay its KV cache out as the engine's core does."""
    import torch  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 # the engine's own, as all below
    from vllm.config import set_current_vllm_config  # type: ignore[import-not-found] # noqa: PLC0415
    from vllm.engine.arg_utils import EngineArgs  # type: ignore[import-not-found] # noqa: PLC0415
    from vllm.model_executor.model_loader.utils import (  # type: ignore[import-not-found] # noqa: PLC0415
        initialize_model,
    )
    from vllm.v1.core import kv_cache_utils  # type: ignore[import-not-found] # noqa: PLC0415

    (folder / name).mkdir()
    (folder / name / "config.json").write_text(json.dumps(question["config"]), encoding="utf-8")
    arguments = EngineArgs(
        model=str(folder / name),
        load_format="dummy",
        skip_tokenizer_init=True,
        enforce_eager=True,
        **question["arguments"],
    )
    config = arguments.create_engine_config()
    config.cache_config.kv_cache_layout = LAYOUT
    with set_current_vllm_config(config):
        join_group(folder)
        torch.set_default_dtype(config.model_config.dtype)
        model = initialize_model(config)
        torch.set_default_dtype(torch.float32)
        layers = config.compilation_config.static_forward_context
        asked = {name: layer.get_kv_cache_spec(config) for name, layer in layers.items() if is_cached(layer)}
        [laid_out] = kv_cache_utils.get_kv_cache_configs(config, [asked], [MEMORY_BYTES])
        tokens, sequences = kv_cache_utils.get_kv_cache_capacity(config, laid_out)
    return {
        "token_bytes": sum(spec.page_size_bytes / spec.block_size for spec in asked.values()),
        "block_tokens": config.cache_config.block_size,
        "sequences": sequences,
        "tokens": tokens,
        "max_model_len": config.model_config.max_model_len,
        "in_flight_tokens": config.max_in_flight_tokens,
        "parameter_bytes": sum(one.numel() * one.element_size() for one in model.parameters()),
        "kv_heads": {degree: kv_heads(config, degree) for degree in DEGREES},
    }


def is_cached(layer: Any) -> bool:
    """Whether it is a layer with a KV cache."""
    return hasattr(layer, "get_kv_cache_spec")


def kv_heads(config: Any, degree: int) -> int:
    """KV heads on each of so many GPUs."""
    return int(config.model_config.get_num_kv_heads(types.SimpleNamespace(tensor_parallel_size=degree)))


def join_group(folder: Path) -> None:
    """Make the process a group of one, as a worker is, once."""
    from vllm import distributed  # type: ignore[import-not-found] # noqa: PLC0415

    if not distributed.parallel_state.model_parallel_is_initialized():
        distributed.init_distributed_environment(1, 0, f"file://{folder}/group", 0, "gloo")
        distributed.initialize_model_parallel(1, 1)


def look_at_classes_here() -> None:
    """Have vLLM look at the classes of models in this process: each process of its own imports vLLM once more."""
    from vllm.model_executor.models import registry  # type: ignore[import-not-found] # noqa: PLC0415

    registry._LazyRegisteredModel.inspect_model_cls = lambda one: registry._ModelInfo.from_model_cls(  # noqa: SLF001 # nothing public does
        one.load_model_cls()
    )


def main() -> None:
    """Questions come on the standard input; the answers are the last line that is printed."""
    look_at_classes_here()
    folder = Path(sys.argv[1])
    questions = json.load(sys.stdin)
    print(json.dumps({name: answer_of(name, question, folder) for name, question in questions.items()}))


if __name__ == "__main__":
    main()
