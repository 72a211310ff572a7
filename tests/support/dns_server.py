"""A DNS server on loopback whose records a test sets."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class DnsServer(asyncio.DatagramProtocol):
    """Answers over UDP.

    Attributes:
        records: The texts of the records by name (with its last dot) and type; a name without any does not exist.
        ttl: Of all records, in seconds.
        broken: Answer SERVFAIL.
        asked: How many questions there were.
    """

    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    ttl: int = 1
    broken: bool = False
    asked: int = 0
    transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a question."""
        self.asked += 1
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        name, kind = question.question[0].name.to_text(), dns.rdatatype.to_text(question.question[0].rdtype)
        found = self.records.get((name, kind))
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif found:
            answer.answer.append(dns.rrset.from_text(name, self.ttl, "IN", kind, *found))
        elif not any(known == name and values for (known, _), values in self.records.items()):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        assert self.transport is not None
        self.transport.sendto(answer.to_wire(), addr)

    def resolver(self) -> dns.asyncresolver.Resolver:
        """A resolver that asks this server only, with a cluster's search path."""
        assert self.transport is not None
        found = dns.asyncresolver.Resolver(configure=False)
        found.nameservers = ["127.0.0.1"]
        found.port = self.transport.get_extra_info("sockname")[1]
        found.search = [dns.name.from_text("cluster.local.")]
        return found


@contextlib.asynccontextmanager
async def dns_server() -> AsyncIterator[DnsServer]:
    """A server without records, until the end of the block."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(DnsServer, local_addr=("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
