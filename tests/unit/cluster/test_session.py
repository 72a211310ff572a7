"""The token and the certificates, which are replaced while the operator runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from vllm_operator.cluster import session as session_module
from vllm_operator.cluster.session import CertificateFiles, bounded_socket, open_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Guard:
    """Lets requests with the right token pass, and remembers what it saw."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.seen: list[str] = []
        self.bodies: list[str] = []
        self.gate = asyncio.Barrier(1)

    async def handle(self, request: web.Request) -> web.Response:
        """One request; refusals wait for each other where the barrier says so."""
        given = request.headers.get("Authorization", "")
        self.seen.append(given)
        self.bodies.append(await request.text())
        if given == f"Bearer {self.token}":
            return web.Response(text="ok")
        await self.gate.wait()
        return web.Response(status=401, text="Unauthorized")

    def server(self) -> TestServer:
        """On loopback."""
        application = web.Application()
        application.router.add_route("*", "/", self.handle)
        return TestServer(application)


def plain_tls() -> ssl.SSLContext:
    """The session wants one; the test's server speaks plain HTTP."""
    return ssl.create_default_context()


async def status(session: aiohttp.ClientSession, server: BaseTestServer) -> int:
    """Status of one request."""
    async with session.get(server.make_url("/")) as response:
        return response.status


async def test_the_token_of_the_file_is_sent(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n", encoding="ascii")
    guard = Guard("first")
    async with guard.server() as server, open_session(plain_tls(), {}, tmp_path / "token") as session:
        assert await status(session, server) == 200
    assert guard.seen == ["Bearer first"]


async def test_a_replaced_token_is_read_and_the_request_sent_again_with_its_body(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first", encoding="ascii")
    guard = Guard("second")
    async with guard.server() as server, open_session(plain_tls(), {}, tmp_path / "token") as session:
        (tmp_path / "token").write_text("second", encoding="ascii")
        for _ in range(2):
            async with session.patch(server.make_url("/"), data=b"body") as response:
                assert response.status == 200
    assert guard.seen == ["Bearer first", "Bearer second", "Bearer second"]
    assert set(guard.bodies) == {"body"}


async def test_a_refusal_with_the_newest_token_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first", encoding="ascii")
    guard = Guard("other")
    async with guard.server() as server, open_session(plain_tls(), {}, tmp_path / "token") as session:
        assert await status(session, server) == 401
    assert guard.seen == ["Bearer first"]


async def test_a_token_that_cannot_be_read_for_a_moment_costs_one_request(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first", encoding="ascii")
    guard = Guard("second")
    async with guard.server() as server, open_session(plain_tls(), {}, tmp_path / "token") as session:
        (tmp_path / "token").unlink()
        assert await status(session, server) == 401
        (tmp_path / "token").write_text("second", encoding="ascii")
        assert await status(session, server) == 200


async def test_requests_that_are_refused_together_are_all_sent_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first", encoding="ascii")
    guard = Guard("second")
    guard.gate = asyncio.Barrier(5)
    async with guard.server() as server, open_session(plain_tls(), {}, tmp_path / "token") as session:
        (tmp_path / "token").write_text("second", encoding="ascii")
        together = [status(session, server) for _ in range(5)]
        assert await asyncio.gather(*together) == [200] * 5


async def test_a_replaced_token_is_sent_within_a_minute_though_the_old_one_is_still_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("first", encoding="ascii")
    monkeypatch.setattr(session_module, "FRESH_SECONDS", 0.0)
    guard = Guard("second")
    async with guard.server() as server, open_session(plain_tls(), {}, tmp_path / "token") as session:
        (tmp_path / "token").write_text("second", encoding="ascii")
        assert await status(session, server) == 200
    assert guard.seen == ["Bearer second"]


class Authority:
    """Signs certificates, as files that a server or a client reads."""

    def __init__(self, name: str) -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._signed(self._name, self._key, authority=True)

    def write(self, path: Path) -> None:
        """Its own certificate."""
        path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def pair(self, path: Path, name: str = "localhost") -> None:
        """A certificate and its key, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._signed(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, authority=False)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(signed.public_bytes(Encoding.PEM) + text)

    def _signed(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .sign(self._key, hashes.SHA256())
        )


@contextlib.asynccontextmanager
async def tls_server(pair: Path, clients: Path | None = None) -> AsyncIterator[TestServer]:
    """A server with this certificate, which says who its client is."""

    async def answer(request: web.Request) -> web.Response:
        assert request.transport
        peer = request.transport.get_extra_info("peercert") or {}
        names = [value for part in peer.get("subject", ()) for _, value in part]
        return web.Response(text=" ".join(names), status=401 if names == ["expired"] else 200)

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pair)
    if clients is not None:
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_verify_locations(clients)
    application = web.Application()
    application.router.add_get("/", answer)
    server = TestServer(application, scheme="https")
    await server.start_server(ssl=tls)
    try:
        yield server
    finally:
        await server.close()


def trusting(authority: Path) -> ssl.SSLContext:
    """As the operator's, at its start."""
    return ssl.create_default_context(cafile=str(authority))


async def test_a_server_that_another_authority_has_signed_is_trusted_once_the_file_names_that(tmp_path: Path) -> None:
    file, served = tmp_path / "ca.crt", tmp_path / "served.pem"
    Authority("old").write(file)
    new = Authority("new")
    new.pair(served)
    certificates = CertificateFiles(authority=file)
    async with (
        tls_server(served) as server,
        open_session(trusting(file), {}, certificates=certificates) as session,
    ):
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await status(session, server)
        file.write_text("-----BEGIN CERTIFICATE-----\nhalf", encoding="ascii")
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await status(session, server)
        new.write(file)
        assert await status(session, server) == 200


async def test_a_certificate_of_ours_that_is_no_longer_taken_is_replaced_by_the_one_in_the_file(tmp_path: Path) -> None:
    authority = Authority("authority")
    file, served, ours = tmp_path / "ca.crt", tmp_path / "served.pem", tmp_path / "ours.pem"
    authority.write(file)
    authority.pair(served)
    authority.pair(ours, "expired")
    tls = trusting(file)
    tls.load_cert_chain(ours)
    certificates = CertificateFiles(certificate=ours, key=ours)
    async with tls_server(served, file) as server, open_session(tls, {}, certificates=certificates) as session:
        assert await status(session, server) == 401
        authority.pair(ours, "renewed")
        assert await status(session, server) == 200


async def test_without_a_token_file_the_given_headers_are_sent() -> None:
    guard = Guard("from-kubeconfig")
    headers = {"Authorization": "Bearer from-kubeconfig"}
    async with guard.server() as server, open_session(plain_tls(), headers) as session:
        assert await status(session, server) == 200


async def test_a_listing_is_read_however_deep_one_of_its_objects_is() -> None:
    deep = '{"items": [{"metadata": {"name": "a"}, "spec": %s}]}' % ("[" * 5000 + "]" * 5000)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=deep, content_type="application/json")

    application = web.Application()
    application.router.add_get("/", answer)
    async with (
        TestServer(application) as server,
        open_session(plain_tls(), {}) as session,
        session.get(server.make_url("/")) as response,
    ):
        found = await response.json()  # as kopf reads it
        assert found["items"][0]["metadata"] == {"name": "a"}


def test_what_the_other_side_does_not_acknowledge_is_given_up_by_the_kernel_and_a_request_fits_into_it() -> None:
    with bounded_socket(2.5, (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))) as made:
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2500
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > 128 * 1024


async def test_a_session_whose_data_is_given_up_works_as_any_other() -> None:
    guard = Guard("x")
    async with guard.server() as server, open_session(plain_tls(), {}, unacknowledged_seconds=2.5) as session:
        assert (await session.get(server.make_url("/"))).status == 401


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [
        ("GET", "/api/v1/pods", "list"),
        ("GET", "/k8s/clusters/c-1/api/v1/namespaces/team/pods", "list"),
        ("GET", "/apis/apps/v1/namespaces/team/deployments", "list"),
        ("GET", "/apis/apps/v1/namespaces/team/deployments/qwen", "get"),
        ("GET", "/api/v1/nodes/one", "get"),
        ("GET", "/api/v1/nodes", "list"),
        ("GET", "/apis", "get"),
        ("GET", "/api/v1", "get"),
        ("GET", "/apis/apps/v1", "get"),
        ("POST", "/api/v1/namespaces/team/events", "create"),
        ("PATCH", "/apis/apps/v1/namespaces/team/deployments/qwen", "patch"),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/team/leases/one", "update"),
        ("DELETE", "/api/v1/namespaces/team/services/qwen", "delete"),
    ],
)
def test_a_request_has_the_verb_of_the_kubernetes_api(method: str, path: str, verb: str) -> None:
    assert session_module.verb_of(method, path, watches=False) == verb


def test_a_watch_is_one_whatever_its_path() -> None:
    assert session_module.verb_of("GET", "/api/v1/pods", watches=True) == "watch"


async def test_each_request_that_is_sent_is_counted_also_the_second_try_and_one_without_an_answer(
    tmp_path: Path,
) -> None:
    (tmp_path / "token").write_text("first", encoding="ascii")
    guard, seen = Guard("second"), list[tuple[str, str, float]]()

    def observe(verb: str, code: str, seconds: float) -> None:
        seen.append((verb, code, seconds))

    async with (
        guard.server() as server,
        open_session(plain_tls(), {}, tmp_path / "token", observe=observe) as session,
    ):
        (tmp_path / "token").write_text("second", encoding="ascii")
        assert await status(session, server) == 200
        url = server.make_url("/")
        await server.close()
        with pytest.raises(aiohttp.ClientError):
            await session.patch(url)
    assert [request[:2] for request in seen] == [("get", "401"), ("get", "200"), ("patch", "<error>")]
    assert all(request[2] >= 0 for request in seen)
