"""The API server over HTTP, for tests that ask it thousands of times: one connection for each thread, no kubectl."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import yaml

from vllm_operator.api.meta import FIELD_MANAGER
from vllm_operator.cluster.kinds import MODEL, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
IDLE_SECONDS = 30.0
"""How long a connection is used again; the API server closes those that have been idle for 90 s."""

ANSWER_SECONDS = 120.0
"""An answer takes no longer where the API server is alive at all."""


class Answer(NamedTuple):
    """What the API server says."""

    code: int
    body: dict[str, Any]

    @property
    def refusal(self) -> str:
        """Why it does not do it; empty if it does."""
        return "" if self.code < http.HTTPStatus.BAD_REQUEST else str(self.body["message"])


class Watch:
    """Events of a collection, beginning with what is there, until it is closed."""

    def __init__(self, connection: http.client.HTTPSConnection, path: str) -> None:
        self._connection = connection
        self._closed = False
        connection.request("GET", path, headers={"Accept": JSON})
        self._socket = connection.sock
        self._response = connection.getresponse()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Type and object of each event.

        Raises:
            OSError: the connection broke, and it was not `close` that did it.
        """
        try:
            for line in self._response:
                yield json.loads(line)
        except (OSError, ValueError, AttributeError, http.client.HTTPException):  # the last but one: closed meanwhile
            if not self._closed:
                raise

    def close(self) -> None:
        """End it; who reads it in another thread sees the end."""
        self._closed = True
        with contextlib.suppress(OSError):  # the server may have ended it
            self._socket.shutdown(socket.SHUT_RDWR)


class Api:
    """Calls to the API server as its administrator. Any thread may use it."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._address = urlsplit(server["server"]).netloc
        self._tls = ssl.create_default_context(cadata=base64.b64decode(server["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile(suffix=".pem") as pair:  # the ssl module reads files only
            pair.write(b"\n".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))
            pair.flush()
            self._tls.load_cert_chain(pair.name)
        self._of_thread = threading.local()
        self._connections: list[http.client.HTTPSConnection] = []

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            connection.close()

    def call(
        self, method: str, path: str, body: object = None, kind: str = JSON, *, accept: str = JSON, **parameters: str
    ) -> Answer:
        """One request."""
        connection = self._connection()
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": kind, "Accept": accept}
        try:
            connection.request(method, f"{path}?{urlencode(parameters)}", data, headers)
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()))
        except (OSError, http.client.HTTPException):
            connection.close()  # the next request opens it again
            raise

    def try_model(self, raw: Mapping[str, Any]) -> Answer:
        """What would come of creating a VLLMModel; unknown and doubled fields are refused, as by kubectl."""
        path = MODEL.path(raw["metadata"]["namespace"])
        return self.call("POST", path, raw, dryRun="All", fieldValidation="Strict")

    def create_model(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Create a VLLMModel, and return it as it is stored."""
        return done(self.call("POST", MODEL.path(raw["metadata"]["namespace"]), raw, fieldValidation="Strict"))

    def apply(self, desired: Mapping[str, Any], manager: str = FIELD_MANAGER, **parameters: str) -> dict[str, Any]:
        """Server-side apply of a whole object, as the operator does it; returns the live one."""
        given = {"fieldManager": manager, "force": "true", **parameters}
        return done(self.call("PATCH", _path(desired), desired, APPLY, **given))

    def read(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """An object as it is now."""
        return done(self.call("GET", _path(known)))

    def watch(self, path: str, **parameters: str) -> Watch:
        """Events of a collection from now on, on a connection of its own."""
        connection = http.client.HTTPSConnection(self._address, context=self._tls)
        self._connections.append(connection)
        return Watch(connection, f"{path}?{urlencode({**parameters, 'watch': '1'})}")

    def delete(self, known: Mapping[str, Any]) -> None:
        """Delete an object."""
        done(self.call("DELETE", _path(known)))

    def _connection(self) -> http.client.HTTPSConnection:
        found: http.client.HTTPSConnection | None = getattr(self._of_thread, "connection", None)
        if found is None:
            found = self._of_thread.connection = http.client.HTTPSConnection(
                self._address, context=self._tls, timeout=ANSWER_SECONDS
            )
            self._connections.append(found)
        now = time.monotonic()
        if now - getattr(self._of_thread, "used_at", now) > IDLE_SECONDS:
            found.close()  # the next request opens it again
        self._of_thread.used_at = now
        return found


def done(answer: Answer) -> dict[str, Any]:
    """What a request returned.

    Raises:
        AssertionError: the API server refused it; with its words.
    """
    assert not answer.refusal, answer.refusal
    return answer.body


def _path(known: Mapping[str, Any]) -> str:
    metadata = known["metadata"]
    return kind_of(known["kind"]).path(metadata["namespace"], metadata["name"])
