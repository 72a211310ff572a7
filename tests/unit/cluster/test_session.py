"""The service account's token, which is replaced while the operator runs."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from vllm_operator.cluster.session import bounded_socket, open_session

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp


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
