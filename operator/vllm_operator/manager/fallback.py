"""What the stem answers over HTTP while no judge does: the last verdict, so that a broken gate evicts nobody.

One thread serves it, between its other work, so nothing in here waits for a client.
"""

from __future__ import annotations

import contextlib
import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from typing import Any

STARTUP_HOLD_SECONDS = 25.0
"""How long an answer "not started" is held back: kubelet counts refusals against the startup budget, and the count in
the pod is made for answers that take so long."""

REQUEST_SECONDS = 5.0
"""What a client has to send its request."""

MOST_REQUEST_BYTES = 8192
MOST_CONNECTIONS = 64

LEAVING = {"kind": "leaving", "cause": "Leaving", "sentence": "the end of the engine was asked for"}
OK = 200
REASONS = {OK: "OK", 404: "Not Found", 503: "Service Unavailable"}


class State:
    """What is known without a judge.

    It is no dataclass, since that module alone takes 1.5 MB of memory beside every engine.
    """

    def __init__(
        self, *, pod: str, since: str, report: Mapping[str, Any], leaving_since: str = "", trouble: str = ""
    ) -> None:
        """Both times are RFC 3339: the container's beginning, and when the engine's end was asked for, if it was.

        Args:
            pod: Its name.
            since: See above.
            report: The last judge's last report; empty before the first one.
            leaving_since: See above; empty: nobody has asked.
            trouble: Why no judge answers.
        """
        self.pod, self.since, self.report = pod, since, report
        self.leaving_since, self.trouble = leaving_since, trouble

    @property
    def verdict(self) -> Mapping[str, Any]:
        """The last one, or that there has been none."""
        none = {"kind": "starting", "cause": "NoJudge", "sentence": "the gate has not looked at the engine yet"}
        last = self.report.get("verdict")
        if self.leaving_since:
            return {**LEAVING, "since": self.leaving_since}
        return {"since": self.since, **(last if isinstance(last, dict) else none)}

    def passes(self, path: str) -> bool:
        """What a probe of kubelet is told. Without any report the engine lives, and takes no traffic."""
        if path == "/ready":
            return bool(self.report.get("ready", False)) and not self.leaving_since
        if path == "/startup":
            return bool(self.report.get("startup", False))
        return bool(self.report.get("live", True))


def answer(path: str, state: State) -> tuple[int, str, str]:
    """Status code, type and body of an answer. Pure."""
    if path == "/status":
        return 200, "application/json", json.dumps(status(state))
    if path == "/metrics":
        header = "# HELP vllm_gate_judge_up Whether a judge watches the engine.\n# TYPE vllm_gate_judge_up gauge\n"
        return 200, "text/plain; version=0.0.4", header + "vllm_gate_judge_up 0\n"
    if path not in ("/startup", "/ready", "/live"):
        return 404, "text/plain", "no such path\n"
    sentence = state.verdict.get("sentence") or state.verdict.get("kind")
    text = f"{sentence} (last known; {state.trouble})" if state.trouble else f"{sentence} (last known)"
    return (200 if state.passes(path) else 503), "text/plain; charset=utf-8", text + "\n"


def status(state: State) -> dict[str, object]:
    """The JSON of /status, with nothing in it that only a judge knows. Pure."""
    verdict, started = state.verdict, state.passes("/startup")
    return {
        "pod": state.pod,
        "verdict": verdict.get("kind"),
        "cause": verdict.get("cause"),
        "sentence": verdict.get("sentence"),
        "since": verdict.get("since"),
        "phase": {"name": "Ready" if started else "Starting", "detail": "", "since": state.since},
        "admitted": started,
        "ready": state.passes("/ready"),
        "suspected": False,
        "restarting": False,
        "in_flight": None,
        "longest_step_seconds": None,
        "stall_window_seconds": None,
        "ranks": {},
        "timeline": [],
        "excerpt": "",
        "diagnosis": None,
        "symptoms": [],
        "trouble": state.trouble,
        "program": "",
        "answered_by": "stem",
    }


class Connection:
    """One client."""

    def __init__(self, client: socket.socket, now: float) -> None:
        client.settimeout(0)
        self.client, self.since, self.received = client, now, b""

    @property
    def path(self) -> str | None:
        """What it asks for; None until it has asked."""
        if b"\r\n\r\n" not in self.received:
            return None
        words = self.received.split(b"\r\n", 1)[0].split()
        return words[1].decode("ascii", "replace").split("?")[0] if len(words) > 1 else ""


class Fallback:
    """The stem's own HTTP server, on the socket that it lends to the judges."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._connections: dict[int, Connection] = {}

    def file_numbers(self) -> list[int]:
        """The clients that have something to send."""
        return list(self._connections)

    @property
    def full(self) -> bool:
        """Whether others have to wait in the socket's backlog."""
        return len(self._connections) >= MOST_CONNECTIONS

    def next_at(self) -> float | None:
        """When something is due that nobody sends."""
        times = (
            one.since + (REQUEST_SECONDS if one.path is None else STARTUP_HOLD_SECONDS)
            for one in self._connections.values()
        )
        return min(times, default=None)

    def accept(self, now: float) -> None:
        """Take those who wait. Others may take them meanwhile: the socket is shared, and so is its way not to wait."""
        self._listener.settimeout(0)
        while not self.full:
            try:
                client, _ = self._listener.accept()
            except OSError:  # none is left, or it has given up
                return
            self._connections[client.fileno()] = Connection(client, now)

    def serve(self, ready: Mapping[int, int], state: State, now: float) -> None:
        """Read from those who have sent, and answer whom an answer is due."""
        for number, one in list(self._connections.items()):
            gone = number in ready and not self._read(one)
            if not gone and one.path is not None:
                gone = self._answered(one, one.path, state, now)
            if gone or (one.path is None and now >= one.since + REQUEST_SECONDS):
                one.client.close()
                del self._connections[number]

    @staticmethod
    def _read(one: Connection) -> bool:
        """Take what it has sent; whether it is still there."""
        try:
            data = one.client.recv(4096)
        except BlockingIOError:
            return True
        except OSError:
            return False
        one.received += data
        return bool(data) and len(one.received) <= MOST_REQUEST_BYTES

    @staticmethod
    def _answered(one: Connection, path: str, state: State, now: float) -> bool:
        code, kind, body = answer(path, state)
        waits = path == "/startup" and code != OK and not state.leaving_since
        if waits and now < one.since + STARTUP_HOLD_SECONDS:
            return False
        content = body.encode("utf-8", "replace")
        head = f"HTTP/1.1 {code} {REASONS[code]}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
        with contextlib.suppress(OSError):  # it has gone, or reads nothing: a few kilobytes always have room
            one.client.sendall(head.encode() + b"Connection: close\r\n\r\n" + content)
        return True
