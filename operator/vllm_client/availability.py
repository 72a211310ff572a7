"""Whether a model can be used: asked of the model itself, not only of the environment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vllm_client.client import VLLMClient
from vllm_client.config import read_config
from vllm_client.errors import VLLMError
from vllm_client.proof import prove
from vllm_client.sync import SyncVLLMClient

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TIMEOUT_SECONDS = 10.0


def check_vllm_availability(
    config: Mapping[str, object] | str | Path | None = None, *, timeout_seconds: float = TIMEOUT_SECONDS
) -> tuple[bool, str]:
    """Whether the model answers, and a sentence for people. It waits; from `async` code, run it in a thread.

    Args:
        config: As for `create_llm_client`; what it lacks comes from the environment.
        timeout_seconds: How long one request may take.
    """
    try:
        settings = replace(read_config(config), timeout=timeout_seconds, max_retries=0)
        with SyncVLLMClient(VLLMClient.from_config(settings)) as llm:
            return True, llm.wait(sentence(llm.client))
    except VLLMError as error:
        return False, f"{type(error).__name__}: {error}"


async def sentence(client: VLLMClient) -> str:
    """The sentence that says what the model did.

    Raises:
        VLLMError: It did nothing.
    """
    length = await prove(client)
    does = f"embeds texts as {length} numbers" if length else "completes prompts"
    return f"model {client.config.model_name} at {client.config.base_url} {does}"
