"""How much of a model is on an engine's disk: the program that counts it, on a real disk."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import told_models as told
from tests.support.resources import resource
from vllm_operator.cli.kubectl import Kubectl, KubectlError
from vllm_operator.cli.status.downloads import downloaded, hub_folder, may_download
from vllm_operator.diagnosis.engine_status import engine_status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fake_kubectl import FakeKubectl

PIECE = 1 << 20


def counted(fake: FakeKubectl, environment: dict[str, str], download_dir: str = "") -> int:
    """What the program prints that is sent to the pod."""
    fake.says("exec", to="1 1.0")
    source = {"source": "org/tiny", **({"downloadDir": download_dir} if download_dir else {})}
    downloaded(Kubectl("", ""), told.running(), resource(model=source))
    call = fake.asked("exec")[-1]
    words = [sys.executable, *call[call.index("--") + 2 :]]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A cache with a whole file of the model, one that has a piece of its length, and another model."""
    folder = tmp_path / "[home]" / "hub"
    for model in ("models--org--tiny", "models--org--other"):
        blobs = folder / model / "blobs"
        blobs.mkdir(parents=True)
        (blobs / "a1b2").write_bytes(b"x" * PIECE)
    with (folder / "models--org--tiny" / "blobs" / "c3d4.incomplete").open("wb") as file:
        file.write(b"x" * PIECE)
        file.truncate(64 * PIECE)
    return folder


def test_what_is_on_the_disk_is_counted_and_not_what_is_to_come(fake: FakeKubectl, hub: Path) -> None:
    for environment in ({"HF_HOME": str(hub.parent)}, {"HF_HUB_CACHE": str(hub), "HF_HOME": "/nowhere"}):
        assert 2 * PIECE <= counted(fake, environment) < 3 * PIECE
    assert 2 * PIECE <= counted(fake, {}, download_dir=str(hub)) < 3 * PIECE
    assert counted(fake, {"HOME": "/nowhere"}) == 0


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("Qwen/Qwen3-8B", "models--Qwen--Qwen3-8B"),
        ("hf://Qwen/Qwen3-8B", "models--Qwen--Qwen3-8B"),
        ("gpt2", "models--gpt2"),
        ("pvc://models/llama", ""),
        ("s3://bucket/llama", ""),
        ("/models/llama", ""),
    ],
)
def test_a_model_of_the_hub_has_a_folder_of_its_own(source: str, folder: str) -> None:
    assert hub_folder(resource(model={"source": source})) == folder


def test_only_an_engine_that_may_be_downloading_is_asked(fake: FakeKubectl) -> None:
    loads, starts = engine_status(told.STATUS), engine_status({**told.STATUS, "phase": {"name": "Starting"}})
    assert loads is not None
    assert starts is not None
    assert (may_download(loads), may_download(starts)) == (False, True)
    fake.says("exec", to="no such file")
    with pytest.raises(KubectlError, match="what the pod prints is no size"):
        downloaded(Kubectl("", ""), told.running(), resource())
