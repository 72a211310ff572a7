"""How the supervisor sees that a part works: a small API client and a DNS question, standard library only."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.addresses import ControlPlane

_CREATED = (200, 201)
_ANSWERS = struct.Struct(">6H")


class Api:
    """The API server as the administrator sees it."""

    def __init__(self, plane: ControlPlane, config: Path) -> None:
        self._host, self._port = plane.address, plane.api_port
        self._tls = ssl.create_default_context(cafile=str(config / "ca.crt"))
        self._tls.load_cert_chain(config / "admin.crt", config / "admin.key")

    def ready(self) -> bool:
        """Whether the API server serves."""
        return self._request("GET", "/readyz")[0] == http.client.OK

    def get(self, path: str) -> dict[str, Any] | None:
        """One object; None while it or the server does not exist."""
        status, body = self._request("GET", path)
        return json.loads(body) if status == http.client.OK else None

    def create(self, path: str, document: dict[str, object]) -> None:
        """Create an object in the collection.

        Raises:
            ValueError: the server refused it.
        """
        status, body = self._request("POST", path, json.dumps(document))
        if status not in _CREATED:
            raise ValueError(f"POST {path}: {status} {body.decode(errors='replace')}")

    def _request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=5, context=self._tls)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()


def http_ok(address: str, port: int, path: str) -> bool:
    """Whether a plain GET is answered with 200."""
    connection = http.client.HTTPConnection(address, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def dns_answers(name: str, server: str, timeout: float = 0.3) -> bool:
    """Whether the server knows an address of the name."""
    number = secrets.randbits(16)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = _ANSWERS.pack(number, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(timeout)
        try:
            asker.sendto(question, (server, 53))
            reply = asker.recv(4096)
        except OSError:
            return False
    got, flags, _, answers, _, _ = _ANSWERS.unpack_from(reply)
    return bool(got == number and flags & 0xF == 0 and answers > 0)
