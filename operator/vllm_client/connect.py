"""Open the OpenAI client that a configuration describes: one URL is a fleet of one engine, which is asked alike."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from vllm_client.discovery import DnsDiscovery, FixedEngines, make_discovery, of_one_model
from vllm_client.tls import Authorities
from vllm_client.values import is_loopback

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from vllm_client.balance.policy import BalancePolicy
    from vllm_client.config import ClientConfig
    from vllm_client.discovery import Discovery

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
"""How long one URL, which may be far away, has for each step of accepting a connection; as with the OpenAI client."""
MOST_CONNECTIONS = 1000


def open_client(config: ClientConfig, options: dict[str, Any], discovery: Discovery | None = None) -> AsyncOpenAI:
    """The OpenAI client; it is imported here because that takes half a second.

    The transport makes all further attempts, and the OpenAI client none; only over an `http_client` of the caller's it
    makes them itself.
    """
    from openai import AsyncOpenAI  # noqa: PLC0415 - see above

    settings: dict[str, Any] = {"base_url": config.base_url, "api_key": config.api_key, "timeout": config.timeout}
    if "http_client" in options:
        settings["max_retries"] = config.max_retries
    else:
        settings |= {"max_retries": 0, "http_client": balanced(config, discovery or discovery_of(config))}
    return AsyncOpenAI(**{**settings, **options})


def balanced(config: ClientConfig, source: Discovery | None) -> Any:
    """The HTTP client whose transport spreads requests over the engines; without a source over the base URL alone.

    Raises:
        ConfigurationError: The file with the authorities to believe cannot be used.
    """
    from openai import DefaultAsyncHttpxClient  # noqa: PLC0415 - see open_client

    from vllm_client.balance.transport import BalancedTransport  # noqa: PLC0415 - it imports the HTTP client

    transport = BalancedTransport(
        source or FixedEngines((config.base_url,)),
        config.base_url,
        policy=config.balance if source else policy_of_one(config),
        max_retries=config.max_retries,
        proxy=None if source else proxy_of(config.base_url),
        authorities=Authorities(config.ca_file),
        server_name=source.server_name if isinstance(source, DnsDiscovery) else "",
    )
    return DefaultAsyncHttpxClient(base_url=config.base_url, timeout=config.timeout, transport=transport)


def policy_of_one(config: ClientConfig) -> BalancePolicy:
    """The policy for one URL, behind which there may be many engines: each request may take all its further attempts.

    What is left of the retry budget would say nothing of the engines that are there.
    """
    policy, retries = config.balance, config.max_retries
    return replace(
        policy,
        connect_seconds=max(policy.connect_seconds, CONNECT_SECONDS),
        retry_share=float(retries),
        retry_burst=float(retries * MOST_CONNECTIONS),
    )


def proxy_of(url: str) -> str | None:
    """The proxy of the environment on the way to a URL; none on the way to this very machine, which it cannot reach."""
    parts = urlsplit(url)
    if is_loopback(url) or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    return found if not found or "://" in found else f"http://{found}"


def discovery_of(config: ClientConfig) -> Discovery | None:
    """Where the engines are; None where there is only the base URL.

    A certificate names the host of the base URL, and not its pods. So engines that DNS finds are asked by https under
    that name, where it is a Service beside the name that is looked up. What else answers by https, such as a gateway
    that ends TLS, is not taken apart into engines.
    """
    name, server_name, url = config.discovery, "", urlsplit(config.base_url)
    if name and url.scheme == "https":
        host = (url.hostname or "").rstrip(".")
        if of_one_model(host, name):
            server_name = host
        else:
            logger.warning("engines are not looked up by %s: their certificates are those of %s", name, config.base_url)
            name = ""
    return make_discovery(config.engines, name, "/v1", server_name)
