"""Make a client from a provider's name, a configuration and the environment."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from vllm_client.client import VLLMClient
from vllm_client.config import read_config
from vllm_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROVIDER_VARIABLE = "LLM_PROVIDER"
PROVIDER = "vllm"


def create_llm_client(provider: str | None = None, config: Mapping[str, object] | None = None) -> VLLMClient:
    """A client for the provider; without one for what LLM_PROVIDER names, vllm by default.

    What `config` lacks comes from VLLM_BASE_URL, VLLM_MODEL_NAME, VLLM_API_KEY and VLLM_DEPLOYMENT_TYPE.

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
    return VLLMClient(**asdict(read_config(config)))
