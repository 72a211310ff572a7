"""Engines as DNS knows them."""

from __future__ import annotations

import pytest

from tests.support.dns_server import dns_server
from vllm_client import ConfigurationError, DiscoveryFailed, DnsDiscovery, Found

NAME = "m-engines.ns.svc"
FULL = f"{NAME}.cluster.local."


async def test_addresses_with_the_port_of_the_binding() -> None:
    async with dns_server() as names:
        names.records = {(FULL, "A"): ["10.0.0.1", "10.0.0.2"], (FULL, "AAAA"): ["fd00::1"]}
        names.ttl = 7
        found = await DnsDiscovery(f"{NAME}:8000", resolver=names.resolver()).find()
    assert sorted(found.urls) == ["http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1"]
    assert found.ttl_seconds == 7


async def test_ipv6_where_there_is_nothing_else() -> None:
    async with dns_server() as names:
        names.records = {(FULL, "AAAA"): ["fd00::1"]}
        found = await DnsDiscovery(f"{NAME}:8000", resolver=names.resolver()).find()
    assert found.urls == ("http://[fd00::1]:8000/v1",)


async def test_service_records_say_the_port() -> None:
    async with dns_server() as names:
        names.records = {(f"_http._tcp.{FULL}", "SRV"): [f"0 9 8001 a.{FULL}"], (f"a.{FULL}", "A"): ["10.0.0.1"]}
        found = await DnsDiscovery(NAME, resolver=names.resolver()).find()
    assert found.urls == ("http://10.0.0.1:8001/v1",)


@pytest.mark.parametrize("name", [NAME, f"{NAME}:8000"])
async def test_no_records_are_no_engines_and_no_server_is_no_answer(name: str) -> None:
    async with dns_server() as names:
        discovery = DnsDiscovery(name, resolver=names.resolver())
        assert await discovery.find() == Found((), 0)
        names.broken = True
        with pytest.raises(DiscoveryFailed, match=NAME):
            await discovery.find()


@pytest.mark.parametrize("text", ["", "a b", "name:port", "name:0", "name:70000", "http://x"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="VLLM_DISCOVERY"):
        DnsDiscovery(text)
