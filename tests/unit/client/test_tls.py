"""Engines behind https: authorities of one's own, and engines that DNS finds under the name of their Service."""

from __future__ import annotations

import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.pki import Authority
from tests.support.dns_server import dns_server
from tests.support.scripted_engine import Whole, completion, scripted_engine
from vllm_client import ConfigurationError, DnsDiscovery, NotReachable, VLLMClient
from vllm_client.config import read_config
from vllm_client.connect import discovery_of
from vllm_client.router import ModelRouter
from vllm_client.tls import Authorities

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.scripted_engine import ScriptedEngine

SERVICE = "tiny.team.svc"
HEADLESS = "tiny-engines.team.svc"
ADDRESSES = ("127.0.0.2", "127.0.0.3")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """One that no machine believes; its certificate is `ca.pem` in tmp_path."""
    found = Authority()
    (tmp_path / "ca.pem").write_bytes(found.certificate)
    return found


def serving(authority: Authority, folder: Path, **names: Any) -> ssl.SSLContext:
    """TLS of a server with a certificate for these hosts and addresses."""
    authority.server("engine", **names).save(folder, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


@asynccontextmanager
async def engines_of(tls: ssl.SSLContext | None) -> AsyncIterator[list[ScriptedEngine]]:
    """Two engines with one port on two addresses of this machine."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(scripted_engine(Whole(completion("one")), host=ADDRESSES[0], tls=tls))
        port = int(first.url.rpartition(":")[2].partition("/")[0])
        other = scripted_engine(Whole(completion("two")), host=ADDRESSES[1], port=port, tls=tls)
        yield [first, await stack.enter_async_context(other)]


def port_of(engine: ScriptedEngine) -> int:
    return int(engine.url.rpartition(":")[2].partition("/")[0])


@asynccontextmanager
async def discovering(engines: list[ScriptedEngine], **settings: Any) -> AsyncIterator[VLLMClient]:
    """A client that finds these engines as the settings `https://SERVICE` and HEADLESS make it find them."""
    port = port_of(engines[0])
    async with dns_server() as dns:
        dns.records[f"{HEADLESS}.", "A"] = list(ADDRESSES)
        source = DnsDiscovery(f"{HEADLESS}:{port}", resolver=dns.resolver(), server_name=SERVICE)
        settings = {"max_retries": 0, "balance": None, **settings}
        async with VLLMClient(f"https://{SERVICE}:{port}", "m", discovery=source, **settings) as client:
            yield client


async def test_engines_that_dns_finds_are_believed_by_the_name_of_their_service(
    authority: Authority, tmp_path: Path
) -> None:
    tls = serving(authority, tmp_path, hosts=[SERVICE])
    async with engines_of(tls) as engines, discovering(engines, ca_file=str(tmp_path / "ca.pem")) as client:
        answers = [await client.completion(f"prompt {number}") for number in range(20)]
    assert {answer.text for answer in answers} == {"one", "two"}, "both are asked, each by its address"
    assert {answer.engine for answer in answers} == {engine.url for engine in engines}
    hosts = {headers["Host"] for engine in engines for headers in engine.headers}
    assert hosts == {f"{SERVICE}:{port_of(engines[0])}"}


async def test_an_engine_with_a_certificate_for_another_name_is_not_believed(
    authority: Authority, tmp_path: Path
) -> None:
    tls = serving(authority, tmp_path, hosts=["other.team.svc"], addresses=ADDRESSES)
    async with engines_of(tls) as engines, discovering(engines, ca_file=str(tmp_path / "ca.pem")) as client:
        with pytest.raises(NotReachable, match=r"certificate is not believed.*VLLM_CA_FILE"):
            await client.complete("x")
    assert not engines[0].bodies + engines[1].bodies


async def test_an_authority_that_nobody_knows_is_not_believed(authority: Authority, tmp_path: Path) -> None:
    async with (
        engines_of(serving(authority, tmp_path, hosts=[SERVICE])) as engines,
        discovering(engines) as client,
    ):
        with pytest.raises(NotReachable, match=r"certificate is not believed.*VLLM_CA_FILE"):
            await client.complete("x")


async def test_engines_that_do_not_speak_tls_are_told_as_that() -> None:
    async with engines_of(None) as engines, discovering(engines) as client:
        with pytest.raises(NotReachable, match=r"no TLS with the engine.*speaks https"):
            await client.complete("x")


async def test_authorities_of_ones_own_hold_for_one_url_and_for_a_list_of_them(
    authority: Authority, tmp_path: Path
) -> None:
    tls, ca_file = serving(authority, tmp_path, addresses=ADDRESSES), str(tmp_path / "ca.pem")
    async with engines_of(tls) as engines:
        urls = [engine.url for engine in engines]
        for settings in ({"base_url": urls[0]}, {"base_url": ",".join(urls)}):
            config = read_config({"model": "m", **settings}, {"VLLM_CA_FILE": ca_file})
            async with VLLMClient.from_config(config) as client:
                assert await client.complete("x") in {"one", "two"}
        async with VLLMClient(urls[0], "m", max_retries=0) as stranger:
            with pytest.raises(NotReachable, match="certificate is not believed"):
                await stranger.complete("x")
            stranger.update_config(ca_file=ca_file)
            assert await stranger.complete("x") == "one"


async def test_the_router_believes_the_authorities_of_the_environment(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CA_FILE", str(tmp_path / "ca.pem"))
    async with engines_of(serving(authority, tmp_path, addresses=ADDRESSES)) as (engine, _):
        model = {"name": "m", "served_names": ["m"], "base_url": engine.url, "ready": True}
        router = ModelRouter.from_catalog({"version": 1, "namespace": "team", "models": [model]})
        async with router.client() as llm:
            assert await llm.complete("x") == "one"


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_a_file_without_a_certificate_is_refused_by_its_variable(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"ca\.pem cannot be used.*Set VLLM_CA_FILE") as caught:
        VLLMClient("https://far", "m", ca_file=str(path))
    assert caught.value.variable == "VLLM_CA_FILE"


def test_authorities_that_are_replaced_are_read_and_a_file_that_is_gone_changes_nothing(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ca.pem"
    known = Authorities(str(path))
    path.write_bytes(authority.certificate + Authority().certificate)
    assert len(known.context().get_ca_certs()) == 2
    path.unlink()
    assert len(known.context().get_ca_certs()) == 2
    assert "stay in use" in caplog.text


def test_the_machines_authorities_are_read_once_for_all_clients_of_a_process_and_anew_where_others_are_named(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    known = Authorities("").context()
    assert Authorities("").context() is known
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert len(Authorities("").context().get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("base_url", "discovery", "server_name"),
    [
        ("https://tiny.team.svc:8000", "tiny-engines.team.svc:8000", "tiny.team.svc"),
        ("https://tiny.team.svc.cluster.local", "tiny-engines.team.svc", "tiny.team.svc.cluster.local"),
        ("https://tiny.team.svc.cluster.local.", "_http._tcp.tiny-engines.team.svc", "tiny.team.svc.cluster.local"),
        ("https://tiny.team", "tiny-engines.team.svc:8000", "tiny.team"),
        ("https://tiny", "tiny-engines:8000", "tiny"),
        ("http://tiny.team.svc:8000", "tiny-engines.team.svc:8000", ""),
        ("https://tiny.other.svc", "tiny-engines.team.svc:8000", None),
        ("https://models.example.com", "tiny-engines.team.svc:8000", None),
        ("https://10.0.0.1", "tiny-engines.team.svc:8000", None),
        ("https://[fd00::1]", "tiny-engines:8000", None),
    ],
)
def test_https_is_taken_apart_into_engines_only_where_the_url_is_a_service_beside_them(
    base_url: str, discovery: str, server_name: str | None
) -> None:
    source = discovery_of(read_config({"base_url": base_url, "discovery": discovery, "model": "m"}, {}))
    assert (source.server_name if isinstance(source, DnsDiscovery) else None) == server_name
