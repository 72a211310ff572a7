"""The factory under the names that echo-roots and its guide give it.

client = LLMClientFactory.create_client("vllm", {"vllm": {"base_url": "http://qwen:8000", "model_name": "qwen"}})
for provider, (available, status) in get_available_providers().items():
    print(provider, available, status)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_client.availability import check_vllm_availability
from vllm_client.factory import PROVIDER, create_llm_client

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vllm_client.client import VLLMClient


def get_available_providers() -> dict[str, tuple[bool, str]]:
    """Each provider that there are clients for, whether it can be used, and a sentence that says why or why not.

    It asks the model that the environment names and waits for the answer, as `check_vllm_availability` does.
    """
    return {PROVIDER: check_vllm_availability()}


class LLMClientFactory:
    """Makes clients; each method does what `create_llm_client` does with its arguments, with its errors."""

    @staticmethod
    def create_client(
        provider: str | None = None, config: Mapping[str, object] | str | Path | None = None
    ) -> VLLMClient:
        """A client that a configuration describes, and the environment where it does not."""
        return create_llm_client(provider, config)

    @staticmethod
    def create_from_environment(provider: str | None = None) -> VLLMClient:
        """A client that the environment describes."""
        return create_llm_client(provider)

    @staticmethod
    def create_from_config_file(config_path: str | Path, provider: str | None = None) -> VLLMClient:
        """A client that a YAML file describes, and the environment where it does not."""
        return create_llm_client(provider, config_file=config_path)

    @staticmethod
    def get_available_providers() -> dict[str, tuple[bool, str]]:
        """As the function of this name."""
        return get_available_providers()
