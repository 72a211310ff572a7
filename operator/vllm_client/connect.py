"""Open the OpenAI client that a configuration describes: over one URL as it is, over several engines balanced."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vllm_client.discovery import DnsDiscovery, make_discovery, of_one_model
from vllm_client.tls import Authorities
from vllm_client.values import is_loopback

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from vllm_client.config import ClientConfig
    from vllm_client.discovery import Discovery

logger = logging.getLogger(__name__)


def open_client(config: ClientConfig, options: dict[str, Any], discovery: Discovery | None = None) -> AsyncOpenAI:
    """The OpenAI client; it is imported here because that takes half a second.

    With several engines the transport makes all further attempts, and the OpenAI client none.
    """
    from openai import AsyncOpenAI  # noqa: PLC0415 - see above

    source = discovery or discovery_of(config)
    settings: dict[str, Any] = {
        "base_url": config.base_url,
        "api_key": config.api_key,
        "timeout": config.timeout,
        "max_retries": config.max_retries,
    }
    if source is not None and "http_client" not in options:
        settings |= {"max_retries": 0, "http_client": balanced(config, source)}
    elif (config.ca_file or is_loopback(config.base_url)) and "http_client" not in options:
        settings["http_client"] = direct(config)
    return AsyncOpenAI(**{**settings, **options})


def direct(config: ClientConfig) -> Any:
    """The HTTP client for one URL: past the proxies of the environment, if it is on this very machine.

    Raises:
        ConfigurationError: The file with the authorities to believe cannot be used.
    """
    from openai import DefaultAsyncHttpxClient  # noqa: PLC0415 - see open_client

    return DefaultAsyncHttpxClient(
        base_url=config.base_url,
        timeout=config.timeout,
        trust_env=not is_loopback(config.base_url),
        verify=Authorities(config.ca_file).context(),
    )


def balanced(config: ClientConfig, source: Discovery) -> Any:
    """The HTTP client whose transport spreads requests over the engines.

    Raises:
        ConfigurationError: The file with the authorities to believe cannot be used.
    """
    from openai import DefaultAsyncHttpxClient  # noqa: PLC0415 - see open_client

    from vllm_client.balance.transport import BalancedTransport  # noqa: PLC0415 - it imports the HTTP client

    transport = BalancedTransport(
        source,
        config.base_url,
        policy=config.balance,
        max_retries=config.max_retries,
        authorities=Authorities(config.ca_file),
        server_name=source.server_name if isinstance(source, DnsDiscovery) else "",
    )
    return DefaultAsyncHttpxClient(base_url=config.base_url, timeout=config.timeout, transport=transport)


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
