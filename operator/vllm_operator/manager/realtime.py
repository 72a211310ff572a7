"""A canary for models that serve /v1/realtime alone: a WebSocket, over which a second of silence is transcribed.

vLLM accepts the WebSocket without its engine, says `session.created`, and answers what is said then with events.
"""

from __future__ import annotations

import json
import struct

from .canaries import realtime_events
from .exchange import LARGEST_ANSWER, EngineError, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

SWITCHING_PROTOCOLS = 101
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
MASKED = 0x80
SHORTEST_16, SHORTEST_64 = 126, 127
"""Values of the length's first byte that announce a longer one."""

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dmxsbS1nYXRlLWNhbmFyeQ==",
)
"""Headers of the handshake. The key keeps caches away, of which there is none here."""


def opened(connection: socket.socket, path: str, request: bytes, deadline: float) -> Reader:
    """Do the handshake; a reader of what follows.

    Raises:
        EngineError: NoEndpoint (vLLM answers 403 to a WebSocket that it does not know), or another answer.
        ClosedError: the connection ended.
        OSError: it broke, or time is over (socket.timeout).
    """
    reader = Reader(connection, path, deadline)
    connection.settimeout(reader.remaining())
    connection.sendall(request)
    status, _ = reader.head()
    if status != SWITCHING_PROTOCOLS:
        causes = {401: "Unauthorized", 403: "NoEndpoint", 404: "NoEndpoint"}
        raise EngineError(causes.get(status, "Failing"), f"{path}: HTTP {status} to a WebSocket")
    return reader


def transcribe(connection: socket.socket, reader: Reader, path: str, model: str) -> None:
    """Have a second of silence transcribed, until the engine's first word of it.

    Raises:
        EngineError: WrongModel, Failing, Empty (a transcription without a token).
        OSError: the connection broke, or time is over (socket.timeout).
    """
    _event(connection, reader, path)  # session.created
    for said in realtime_events(model):
        connection.settimeout(reader.remaining())
        connection.sendall(frame(TEXT, json.dumps(said).encode()))
    while True:
        event = _event(connection, reader, path)
        kind = event.get("type")
        if kind == "error":
            cause = "WrongModel" if event.get("code") == "model_not_found" else "Failing"
            raise EngineError(cause, f"{path}: {str(event.get('error'))[:200]}")
        if kind == "transcription.delta":
            return
        if kind == "transcription.done":
            if not (event.get("usage") or {}).get("completion_tokens"):
                raise EngineError("Empty", f"{path}: a transcription came back empty")
            return


def frame(kind: int, payload: bytes) -> bytes:
    """A frame as clients send it: masked, here with zeros, which change nothing."""
    size = len(payload)
    if size < SHORTEST_16:
        head = struct.pack("!BB", 0x80 | kind, MASKED | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | kind, MASKED | SHORTEST_16, size)
    else:
        head = struct.pack("!BBQ", 0x80 | kind, MASKED | SHORTEST_64, size)
    return head + bytes(4) + payload


def _event(connection: socket.socket, reader: Reader, path: str) -> dict[str, Any]:
    """The next event of the server; pings are answered, other frames passed over."""
    while True:
        kind, payload = _read_frame(reader, path)
        if kind == PING:
            connection.sendall(frame(PONG, payload))
        elif kind == CLOSE:
            raise EngineError("Failing", f"{path}: the server ended the session")
        elif kind == TEXT:
            try:
                event = json.loads(payload)
            except ValueError:
                event = None
            if not isinstance(event, dict):
                raise EngineError("Failing", f"{path} does not answer as vLLM does")
            return event


def _read_frame(reader: Reader, path: str) -> tuple[int, bytes]:
    first, size = reader.take(2)
    size &= ~MASKED
    if size == SHORTEST_16:
        size = int.from_bytes(reader.take(2), "big")
    elif size == SHORTEST_64:
        size = int.from_bytes(reader.take(8), "big")
    if size > LARGEST_ANSWER:
        raise EngineError("Failing", f"{path}: the answer is larger than {LARGEST_ANSWER >> 20} MB")
    return first & 0xF, reader.take(size)
