"""The client's settings: read from a mapping or a YAML file first, then from the environment."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vllm_client import values
from vllm_client.balance.policy import BalancePolicy, read_policy
from vllm_client.discovery import Name, is_url, split_urls
from vllm_client.errors import ConfigurationError
from vllm_client.values import VARIABLES
from vllm_client.yaml_file import read_yaml

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_API_KEY = "dummy-key"
"""Sent to engines that ask for none; the OpenAI client insists on sending one."""
LOCAL = "local"
LOCAL_URL = "http://localhost:8000"
LOCAL_LIMITS = (60.0, 3)
CLOUD_LIMITS = (120.0, 5)
"""Timeout and retries of engines behind a network."""
NOT_OURS = frozenset({"llm", "provider"})
"""What stands beside the settings and says whose they are."""
ALIASES = {"endpoint": "base_url", "model": "model_name"}
KEYS = frozenset({*VARIABLES, *ALIASES, "host", "port", "timeout", "max_retries", "balance"})


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """The settings of a client.

    Attributes:
        base_url: Where the engine answers, ending in /v1.
        model_name: The served name to ask for.
        api_key: The key to send.
        timeout: Seconds until an answer begins, all attempts together.
        max_retries: Further attempts after a failure that may pass.
        engines: The base URLs of the engines, where they are known; base_url may be one of them.
        discovery: The DNS name by which engines are found, as in VLLM_DISCOVERY.
        balance: How requests are spread over several engines.
        ca_file: The certificates of the authorities to believe, as PEM; empty: those that this machine believes.
    """

    base_url: str
    model_name: str
    api_key: str = field(default=DEFAULT_API_KEY, repr=False)
    timeout: float = LOCAL_LIMITS[0]
    max_retries: int = LOCAL_LIMITS[1]
    engines: tuple[str, ...] = ()
    discovery: str = ""
    balance: BalancePolicy = field(default_factory=BalancePolicy)
    ca_file: str = ""

    def __post_init__(self) -> None:
        """Take what is meant.

        Raises:
            ConfigurationError: No URL or no model is given, or a value cannot be meant.
        """
        taken = {
            "base_url": values.base_url(self.base_url),
            "engines": tuple(dict.fromkeys(map(values.base_url, self.engines))),
            "discovery": self.discovery.strip(),
            "ca_file": self.ca_file.strip(),
            "model_name": values.model_name(self.model_name),
            "api_key": values.api_key(self.api_key),
        }
        for name, value in taken.items():
            object.__setattr__(self, name, value)
        if self.discovery:
            Name.parse(self.discovery)


def read_config(
    given: Mapping[str, object] | str | Path | None = None, environ: Mapping[str, str] | None = None
) -> ClientConfig:
    """Settings from `given` (flat, or under the key `vllm`; or a YAML file), what it lacks from the environment.

    A base URL is honoured whatever the deployment type says; `local` only stands for localhost where none is given.

    Raises:
        ConfigurationError: Something is missing or wrong.
    """
    environ = os.environ if environ is None else environ
    found = with_environment(with_local_url(known_values(given_settings(given, environ))), environ)
    local = is_local(found)
    urls = texts(found.get("base_url")) or ((LOCAL_URL,) if local else ())
    sources = texts(found.get("discovery"))
    names = [text for text in sources if not is_url(text)]
    timeout, retries = LOCAL_LIMITS if local else CLOUD_LIMITS
    return ClientConfig(
        base_url=urls[0] if urls else "",
        model_name=str(found.get("model_name") or ""),
        api_key=str(found.get("api_key") or DEFAULT_API_KEY),
        timeout=number(found, "timeout", timeout),
        max_retries=int(number(found, "max_retries", retries)),
        engines=tuple(text for text in sources if is_url(text)) or (urls if len(urls) > 1 else ()),
        discovery=",".join(names),
        balance=read_policy(found.get("balance") or {}),
        ca_file=str(found.get("ca_file") or ""),
    )


def given_settings(
    given: Mapping[str, object] | str | Path | None, environ: Mapping[str, str] | None = None
) -> Mapping[str, object]:
    """The settings in a mapping or a YAML file, which may be other programs' too.

    Raises:
        ConfigurationError: The file cannot be used.
    """
    if isinstance(given, Mapping):
        return given
    return read_yaml(given, os.environ if environ is None else environ, "vllm") if given else {}


def provider_of(given: Mapping[str, object]) -> str:
    """The provider that a configuration names, as `llm.provider` or `provider`; empty where it names none."""
    part = given.get("llm")
    named = part.get("provider") if isinstance(part, Mapping) else given.get("provider")
    return str(named or "")


def is_local(values: Mapping[str, object]) -> bool:
    """Whether the settings are of an engine on this machine, or one that is as near."""
    return str(values.get("deployment_type") or LOCAL).lower() == LOCAL


def with_local_url(values: dict[str, object]) -> dict[str, object]:
    """The settings, the host and the port of a local engine put together to its base URL where that is missing.

    So what a configuration says of where the engine is goes before the environment, by whatever keys it says it.
    """
    host, port = values.get("host"), values.get("port")
    if values.get("base_url") or not (host or port) or not is_local(values):
        return values
    return {**values, "base_url": f"http://{host or 'localhost'}:{port or 8000}"}


def with_environment(values: dict[str, object], environ: Mapping[str, str]) -> dict[str, object]:
    """The settings, what they lack from the environment; how to find other engines only with the URL beside it."""
    own_url = bool(values.get("base_url"))
    found = dict(values)
    for key, variable in VARIABLES.items():
        if key == "discovery" and own_url:
            continue
        if not found.get(key) and environ.get(variable):
            found[key] = environ[variable]
    return found


def texts(value: object) -> tuple[str, ...]:
    """The texts in a list, or in a text with commas."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(str(part) for part in value)
    return split_urls(str(value or ""))


def known_values(given: Mapping[str, object]) -> dict[str, object]:
    """The settings under their one name.

    Raises:
        ConfigurationError: There is no such setting.
    """
    nested = given.get("vllm", {key: value for key, value in given.items() if key not in NOT_OURS})
    if not isinstance(nested, Mapping):
        raise ConfigurationError("the configuration's `vllm` is not a mapping", variable="vllm", advice="Make it one")
    for key in nested:
        if key not in KEYS:
            advice = f"There are {', '.join(sorted(KEYS))}"
            raise ConfigurationError(f"there is no setting {key!r}", variable=str(key), advice=advice)
    return {str(ALIASES.get(key, key)): value for key, value in nested.items()}


def number(values: Mapping[str, object], key: str, default: float) -> float:
    """A number from 0 on, not without an end.

    Raises:
        ConfigurationError: It is none.
    """
    value = values.get(key)
    try:
        found = default if value is None else float(str(value))
    except ValueError:
        found = -1.0
    if not 0 <= found < math.inf:
        raise ConfigurationError(f"{key} is {value!r}", variable=key, advice=f"Set {key} to a number from 0 on")
    return found
