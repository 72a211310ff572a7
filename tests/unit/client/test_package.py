"""What the package offers and what it drags in."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import vllm_client
from vllm_client import errors


def test_all_is_sorted_and_complete() -> None:
    offered = {name for name, value in vars(vllm_client).items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert vllm_client.__all__ == sorted(vllm_client.__all__)
    assert set(vllm_client.__all__) == offered


def test_every_error_is_offered_and_drawn_in_the_tree() -> None:
    tree = errors.__doc__ or ""
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind)]
    assert len(kinds) > 5
    for kind in kinds:
        assert issubclass(kind, vllm_client.VLLMError)
        assert kind.__name__ in vllm_client.__all__
        assert kind.__name__ in tree


def test_the_import_drags_in_neither_the_operator_nor_the_openai_client() -> None:
    program = "import sys, vllm_client; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "vllm_client" in loaded
    assert not {"openai", "httpx2", "pydantic", "vllm_operator"} & set(loaded)


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(vllm_client.__file__).parent / "py.typed").exists()
