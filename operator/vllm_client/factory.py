"""Make a client from a provider's name, a configuration and the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vllm_client.client import VLLMClient
from vllm_client.config import given_settings, provider_of, read_config
from vllm_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROVIDER_VARIABLE = "LLM_PROVIDER"
PROVIDER = "vllm"


def create_llm_client(
    provider: str | None = None,
    config: Mapping[str, object] | str | Path | None = None,
    *,
    config_file: str | Path | None = None,
) -> VLLMClient:
    """A client for the provider; without one for what the configuration's `llm.provider` or LLM_PROVIDER names.

    Args:
        provider: Only `vllm` is one, and what counts where nothing is named.
        config: Settings, flat or under the key `vllm`, or the path of a YAML file with them. What is not there
            comes from VLLM_BASE_URL, VLLM_MODEL_NAME, VLLM_API_KEY, VLLM_DISCOVERY and VLLM_DEPLOYMENT_TYPE.
        config_file: The path of a YAML file, by another name.

    Raises:
        ConfigurationError: The provider is another one, or a setting is missing or wrong.
        TypeError: `config` and `config_file` are both given.
    """
    if config is not None and config_file is not None:
        raise TypeError("give config or config_file, and not both")
    settings = given_settings(config if config_file is None else config_file)
    wanted = provider or provider_of(settings) or os.environ.get(PROVIDER_VARIABLE) or PROVIDER
    if wanted.strip().lower() != PROVIDER:
        raise ConfigurationError(
            f"this library talks to vLLM, not to {wanted!r}",
            variable=PROVIDER_VARIABLE,
            advice=f"Set {PROVIDER_VARIABLE}={PROVIDER}, or llm.provider: {PROVIDER} in the configuration",
        )
    return VLLMClient.from_config(read_config(settings))


def create_vllm_from_config(config: Mapping[str, object] | str | Path | None = None) -> VLLMClient:
    """A client from a configuration, as echo-roots writes it; see `create_llm_client`."""
    return create_llm_client(PROVIDER, config)
