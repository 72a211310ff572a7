"""The demo's program for a client pod: what it asks, prints, and how that is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from examples import extraction
from tests.demo import extracted
from vllm_client import VLLMClient

if TYPE_CHECKING:
    import pytest

ANSWERS = {
    product: extraction.Attributes(item="thing", color="red", material="wool", size=str(number))
    for number, product in enumerate(extraction.PRODUCTS)
}


async def test_what_it_prints_is_read_again_also_between_warnings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def chat(_: VLLMClient, messages: list[dict[str, str]], **asked: Any) -> str:
        assert asked["schema"] is extraction.Attributes
        return ANSWERS[messages[-1]["content"]].model_dump_json()

    monkeypatch.setenv("VLLM_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("VLLM_MODEL_NAME", "smollm2")
    monkeypatch.setattr(VLLMClient, "chat", chat)
    await extraction.main()
    printed = capsys.readouterr().out
    assert extracted.read(f"http://10.0.0.1:8000 is ejected for 1 s\n{printed}a last word\n") == ANSWERS
