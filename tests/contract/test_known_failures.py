"""What a real vLLM writes when its start fails is recognized: each of these is said by the engine itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.vllm_cpu import engine_environment, real_engine
from vllm_operator.diagnosis.signatures import explain, table
from vllm_operator.manager.log import Log

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.real_vllm

START_SECONDS = 240
EAGER = ("--enforce-eager", "--kv-cache-memory-bytes", "67108864", "--max-model-len", "1024")


def failed_start(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> str:
    """Everything that a start says which has to fail."""
    engine = real_engine().require()
    done = subprocess.run(
        [str(engine.command), "serve", *words, "--host", "127.0.0.1", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
        env={"PATH": "/usr/bin:/bin", **engine_environment(folder), **(env or {})},
    )
    assert done.returncode != 0
    return done.stdout + done.stderr


def recognized(text: str) -> tuple[str, str, str]:
    """Id, field and value of what a log tells of."""
    log = Log({}, table=table())
    log.feed(text.encode(), 100.0)
    found = log.diagnosis(100.0)
    assert found is not None, text[-4000:]
    told = explain(found.id, found.groups)
    assert told is not None
    return told.id, told.field, told.value


def copied(folder: Path, *missing: str, **config: Any) -> str:
    """The tiny model without some of its files, and with other settings."""
    copy = folder / "model"
    shutil.copytree(real_engine().require().model, copy)
    for name in missing:
        (copy / name).unlink()
    path = copy / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **config}), encoding="utf-8")
    return str(copy)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--swap-space", "4"), ("Arguments", "spec.engine.extraArgs", "")),
        (("--dtype", "fp4"), ("Arguments", "spec.engine.extraArgs", "")),
        (("--max-model-len", "999999"), ("MaxModelLen", "spec.engine.maxModelLen", "4096")),
        (("--tensor-parallel-size", "3"), ("TensorParallelSize", "spec.parallelism.tensor", "2")),
        (("--quantization", "int3"), ("Arguments", "spec.engine.extraArgs", "")),
        (
            ("--tool-call-parser", "hermez", "--enable-auto-tool-choice"),
            ("ToolCallParser", "spec.engine.toolCallParser", ""),
        ),
        (("--enable-auto-tool-choice",), ("ToolCallParserMissing", "spec.engine.toolCallParser", "")),
        (("--reasoning-parser", "deepseek_r9"), ("ReasoningParser", "spec.engine.reasoningParser", "")),
        (
            ("--max-num-batched-tokens", "16", "--max-num-seqs", "64"),
            ("BatchedTokens", "spec.engine.maxNumBatchedTokens", "64"),
        ),
    ],
    ids=lambda value: "-".join(value) if value[0].startswith("--") else value[0],
)
def test_a_wrong_argument_is_recognized(tmp_path: Path, flags: tuple[str, ...], told: tuple[str, str, str]) -> None:
    text = failed_start(tmp_path, str(real_engine().model), *flags)
    assert recognized(text) == told


def test_a_cache_that_is_too_small_for_one_request_is_recognized_with_what_would_fit(tmp_path: Path) -> None:
    flags = ("--enforce-eager", "--kv-cache-memory-bytes", "262144", "--max-model-len", "2048")
    name, field, value = recognized(failed_start(tmp_path, str(real_engine().model), *flags))
    assert (name, field) == ("KvCacheTooSmall", "spec.engine.maxModelLen")
    assert 0 < int(value) < 2048


def test_a_folder_that_is_not_there_is_recognized(tmp_path: Path) -> None:
    assert recognized(failed_start(tmp_path, "/models/llama"))[0] == "MissingPath"


def test_a_model_that_is_not_in_the_cache_of_an_engine_without_a_network_is_recognized(tmp_path: Path) -> None:
    assert recognized(failed_start(tmp_path, "org/model"))[0] in {"HubOffline", "HubUnreachable"}


def test_files_that_are_missing_are_recognized(tmp_path: Path) -> None:
    model = copied(tmp_path, "model.safetensors")
    assert recognized(failed_start(tmp_path, model, *EAGER)) == ("NoWeights", "spec.model.loadFormat", "")


def test_an_architecture_that_nobody_knows_is_recognized(tmp_path: Path) -> None:
    model = copied(tmp_path, architectures=["NoSuchForCausalLM"])
    assert recognized(failed_start(tmp_path, model))[:2] == ("UnsupportedArchitecture", "spec.engine.image")


def test_the_variables_of_a_service_are_recognized(tmp_path: Path) -> None:
    env = {"VLLM_PORT": "tcp://10.96.101.7:8000"}
    assert recognized(failed_start(tmp_path, str(real_engine().model), *EAGER, env=env))[0] == "ServiceLinks"
