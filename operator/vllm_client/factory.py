"""Make a client from a provider's name, a configuration and the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vllm_client.client import VLLMClient
from vllm_client.config import read_config
from vllm_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROVIDER_VARIABLE = "LLM_PROVIDER"
PROVIDER = "vllm"


def create_llm_client(
    provider: str | None = None, config: Mapping[str, object] | str | Path | None = None
) -> VLLMClient:
    """A client for the provider; without one for what LLM_PROVIDER names, vllm by default.

    Args:
        provider: Only `vllm` is one.
        config: Settings, flat or under the key `vllm`, or the path of a YAML file with them. What is not there
            comes from VLLM_BASE_URL, VLLM_MODEL_NAME, VLLM_API_KEY, VLLM_DISCOVERY and VLLM_DEPLOYMENT_TYPE.

    Raises:
        ConfigurationError: The provider is another one, or a setting is missing or wrong.
    """
    wanted = provider or os.environ.get(PROVIDER_VARIABLE) or PROVIDER
    if wanted.lower() != PROVIDER:
        raise ConfigurationError(
            f"this library talks to vLLM, not to {wanted!r}",
            variable=PROVIDER_VARIABLE,
            advice=f"Set {PROVIDER_VARIABLE}={PROVIDER}",
        )
    return create_vllm_from_config(config)


def create_vllm_from_config(config: Mapping[str, object] | str | Path | None = None) -> VLLMClient:
    """A client from a configuration, as echo-roots writes it; see `create_llm_client`."""
    return VLLMClient.from_config(read_config(config))


class LLMClientFactory:
    """The factory under the name that echo-roots gives it."""

    @staticmethod
    def create_from_environment(provider: str | None = None) -> VLLMClient:
        """A client that the environment describes; see `create_llm_client`."""
        return create_llm_client(provider)
