"""What clients that stand around another client have in common, and what they can know of it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_client.closing import Closing, close
from vllm_client.errors import MissingExtra

if TYPE_CHECKING:
    from vllm_client.protocol import LLMClient


@dataclass(frozen=True)
class Target:
    """Who answers; both are empty where the client does not say.

    Attributes:
        endpoint: The base URL.
        model_name: The served name.
    """

    endpoint: str = ""
    model_name: str = ""


class ClientWrapper(Closing):
    """A client around another one. What it does not do itself is done by `.llm`.

    Attributes:
        llm: The client inside.
    """

    def __init__(self, llm: LLMClient) -> None:
        self.llm = llm

    @property
    def config(self) -> object | None:
        """The settings of the client inside, so that wrappers can be put around each other; None if it has none."""
        return getattr(self.llm, "config", None)

    async def close(self) -> None:
        """Close the client inside, if it can be closed."""
        await close(self.llm)


def target_of(llm: LLMClient) -> Target:
    """Whom the client asks, by its `config`; read anew for each request, because settings can be changed."""
    config = getattr(llm, "config", None)
    return Target(str(getattr(config, "base_url", "") or ""), str(getattr(config, "model_name", "") or ""))


def require(module: str, *, extra: str, purpose: str) -> Any:
    """A module that only an extra installs.

    Raises:
        MissingExtra: It is not installed; the error says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{purpose} needs the module {error.name}", advice=f"Install it: pip install 'vllm-operator[{extra}]'"
        ) from error
