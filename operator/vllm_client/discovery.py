"""Where the engines of a model are.

The operator's client binding names a headless Service, `VLLM_DISCOVERY=NAME-engines.NAMESPACE.svc:PORT`: its DNS
records are the engines that pass their gate, and no others. With a port, the A records (or AAAA, where there are none)
are the engines; without one, the SRV records of the port `http` are. A list of URLs is a source too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vllm_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dns.asyncresolver import Resolver
    from dns.resolver import Answer

VARIABLE = "VLLM_DISCOVERY"
SRV_PREFIX = "_http._tcp"
"""The operator names the port of its Services `http`."""
LOOKUP_SECONDS = 2.0
FOREVER = float("inf")


@dataclass(frozen=True)
class Found:
    """The engines of a model.

    Attributes:
        urls: Their base URLs, without order; empty if there are none.
        ttl_seconds: How long that holds.
    """

    urls: tuple[str, ...]
    ttl_seconds: float


class DiscoveryFailed(Exception):  # noqa: N818 - as in errors.py: the name says what happened
    """Nobody could say where the engines are; what was known before may still hold."""


class Discovery(Protocol):
    """A source of engines."""

    async def find(self) -> Found:
        """The engines that there are now.

        Raises:
            DiscoveryFailed: Nobody can say.
        """


@dataclass(frozen=True)
class FixedEngines:
    """Engines that are known beforehand.

    Attributes:
        urls: Their base URLs, ending in /v1.
    """

    urls: tuple[str, ...]

    async def find(self) -> Found:
        """The same engines always."""
        return Found(self.urls, FOREVER)


@dataclass(frozen=True)
class Name:
    """A DNS name to look up.

    Attributes:
        host: The name; it is completed by the search path of resolv.conf.
        port: The engines' port; None: their SRV records say it.
    """

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Name:
        """The name in NAME or NAME:PORT.

        Raises:
            ConfigurationError: It is neither.
        """
        found = re.fullmatch(r"(?P<host>[A-Za-z0-9_]([A-Za-z0-9._-]*))(:(?P<port>\d{1,5}))?", text)
        port = int(found["port"]) if found and found["port"] else None
        if not found or (port is not None and not 0 < port < 2**16):
            raise ConfigurationError(
                f"{text!r} is no name to discover engines by",
                variable=VARIABLE,
                advice=f"Set {VARIABLE} to NAME-engines.NAMESPACE.svc:PORT, or to URLs with commas between them",
            )
        return cls(found["host"], port)


class DnsDiscovery:
    """Looks engines up in DNS.

    Args:
        name: What to look up, as in VLLM_DISCOVERY.
        path: The path of the engines' API.
        resolver: Who looks it up; None: what resolv.conf describes.
        server_name: The host that the engines' certificates name, where they speak https: they are known by their
            addresses, which certificates do not name. Empty: they speak http.

    Raises:
        ConfigurationError: The name is none.
    """

    def __init__(
        self, name: str, *, path: str = "/v1", resolver: Resolver | None = None, server_name: str = ""
    ) -> None:
        self.name = Name.parse(name)
        self.server_name = server_name
        self.path = path
        self.resolver = resolver

    async def find(self) -> Found:
        """The engines that DNS knows; none where the name has no records.

        Raises:
            DiscoveryFailed: No server gave an answer.
        """
        if self.name.port is not None:
            return await self.addresses(self.name.host, self.name.port)
        service = self.name.host if self.name.host.startswith("_") else f"{SRV_PREFIX}.{self.name.host}"
        answer = await self.lookup(service, "SRV")
        if answer is None:
            return Found((), 0)
        targets = [await self.addresses(str(record.target), record.port) for record in answer]
        urls = tuple(dict.fromkeys(url for target in targets for url in target.urls))
        return Found(urls, min([ttl_of(answer), *(target.ttl_seconds for target in targets)]))

    async def addresses(self, host: str, port: int) -> Found:
        """The engines behind a host name: those of one address family, or an engine with two would count twice."""
        for kind, form in (("A", "{}"), ("AAAA", "[{}]")):
            answer = await self.lookup(host, kind)
            if answer is not None:
                hosts, scheme = (
                    [form.format(record.address) for record in answer],
                    "https" if self.server_name else "http",
                )
                return Found(tuple(f"{scheme}://{host}:{port}{self.path}" for host in hosts), ttl_of(answer))
        return Found((), 0)

    async def lookup(self, name: str, kind: str) -> Answer | None:
        """The records of a name; None if it has none.

        Raises:
            DiscoveryFailed: No server gave an answer.
        """
        import dns.asyncresolver  # noqa: PLC0415 - a tenth of a second that clients of one URL need not spend
        import dns.exception  # noqa: PLC0415 - see above
        import dns.resolver  # noqa: PLC0415 - see above

        try:
            self.resolver = self.resolver or dns.asyncresolver.Resolver()
            return await self.resolver.resolve(name, kind, search=True, lifetime=LOOKUP_SECONDS)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return None
        except (dns.exception.DNSException, OSError) as error:
            raise DiscoveryFailed(f"DNS does not say where {name} is: {error}") from error


def ttl_of(answer: Answer) -> float:
    """How long the records hold, in seconds."""
    return float(answer.rrset.ttl) if answer.rrset else 0.0


def split_urls(text: str) -> tuple[str, ...]:
    """The parts of a text with commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than a name."""
    return "://" in text


def of_one_model(host: str, name: str) -> bool:
    """Whether a URL's host is a Service in the namespace of a name by which engines are looked up.

    Both are written as Kubernetes has them: SERVICE, SERVICE.NAMESPACE, or with `.svc` and more behind that. What is
    left out is the namespace that the client is in.
    """
    mine, other = host.split("."), [part for part in Name.parse(name).host.split(".") if not part.startswith("_")]
    namespaces = [parts[1] if len(parts) > 1 else "" for parts in (mine, other)]
    services = ":" not in host and all(parts[2:3] in ([], ["svc"]) for parts in (mine, other))
    return services and namespaces[0] == namespaces[1]


def make_discovery(urls: Sequence[str], name: str, path: str, server_name: str = "") -> Discovery | None:
    """The source of engines that the settings describe; None for one URL. `server_name` as of DnsDiscovery."""
    if name:
        return DnsDiscovery(name, path=path, server_name=server_name)
    return FixedEngines(tuple(urls)) if len(urls) > 1 else None
