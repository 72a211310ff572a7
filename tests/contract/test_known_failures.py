"""What a real vLLM writes when its start fails is recognized: each of these is said by the engine itself."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.failing_starts import FailingStarts, failing_starts
from tests.support.vllm_cpu import real_engine
from vllm_operator.diagnosis.signatures import explain, table
from vllm_operator.manager.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real_vllm

EAGER = ("--enforce-eager", "--kv-cache-memory-bytes", "67108864", "--max-model-len", "1024")


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailingStarts]:
    """What makes the starts."""
    with failing_starts(tmp_path_factory.mktemp("home")) as found:
        yield found


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
        (("--quantization", "int3"), ("UnknownQuantization", "spec.engine.quantization", "")),
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
def test_a_wrong_argument_is_recognized(
    starts: FailingStarts, flags: tuple[str, ...], told: tuple[str, str, str]
) -> None:
    text = starts.output(str(real_engine().model), *flags)
    assert recognized(text) == told


def test_a_cache_that_is_too_small_for_one_request_is_recognized_with_what_would_fit(starts: FailingStarts) -> None:
    flags = ("--enforce-eager", "--kv-cache-memory-bytes", "262144", "--max-model-len", "2048")
    name, field, value = recognized(starts.output(str(real_engine().model), *flags))
    assert (name, field) == ("KvCacheTooSmall", "spec.engine.maxModelLen")
    assert 0 < int(value) < 2048


def test_a_folder_that_is_not_there_is_recognized(starts: FailingStarts) -> None:
    assert recognized(starts.output("/models/llama"))[0] == "MissingPath"


def test_a_model_that_is_not_in_the_cache_of_an_engine_without_a_network_is_recognized(starts: FailingStarts) -> None:
    assert recognized(starts.output("org/model"))[0] in {"HubOffline", "HubUnreachable"}


def test_files_that_are_missing_are_recognized(starts: FailingStarts, tmp_path: Path) -> None:
    model = copied(tmp_path, "model.safetensors")
    assert recognized(starts.output(model, *EAGER)) == ("NoWeights", "spec.model.loadFormat", "")


def test_an_architecture_that_nobody_knows_is_recognized(starts: FailingStarts, tmp_path: Path) -> None:
    model = copied(tmp_path, architectures=["NoSuchForCausalLM"])
    assert recognized(starts.output(model))[:2] == ("UnsupportedArchitecture", "spec.engine.image")


def test_the_variables_of_a_service_are_recognized(starts: FailingStarts) -> None:
    assert (
        recognized(starts.output(str(real_engine().model), *EAGER, VLLM_PORT="tcp://10.96.101.7:8000"))[0]
        == "ServiceLinks"
    )
