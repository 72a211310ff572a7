"""A judge for the tests of the stem: keeps the protocol, and does what the files of a folder say.

It lies in the pod's folder as `program.py`, and is run as the stem runs the real one. `mode` says how it fails, if at
all; `report.json` what it reports; what it was given and told it leaves beside them. SIGHUP: it gives the engine up.
SIGUSR2: it wants to be replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

FOLDER = Path(os.environ["JUDGE_FOLDER"])
REPORT, LOG, MEMORY = (int(os.environ[name]) for name in ("GATE_REPORT", "GATE_LOG", "GATE_MEMORY"))
SOCKET = socket.socket(fileno=int(os.environ["GATE_SOCKET"]))
REPLACE = 75
REPLACED = threading.Event()
PERIOD_SECONDS = 0.1


def main() -> None:
    """Judge until the stem is gone."""
    files = sorted(int(file.name) for file in Path("/proc/self/fd").iterdir())
    mode = read("mode")
    if mode == "crash":
        sys.exit("ImportError: no such module")
    told = {name: value for name, value in os.environ.items() if name.startswith("GATE_")}
    if mode == "hang":
        leave("life", {**told, "pid": os.getpid()})
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    with os.fdopen(MEMORY, "rb") as file:
        leave("memory", file.read().decode())
    for number, act in ((signal.SIGUSR1, be_told), (signal.SIGUSR2, be_replaced), (signal.SIGHUP, give_up)):
        signal.signal(number, act)
    if mode != "deaf":
        threading.Thread(target=follow, args=(mode,), daemon=True).start()
    threading.Thread(target=report, args=(mode,), daemon=True).start()
    said = {
        "files": files,
        "group": os.getpgid(0),
        "cwd": str(Path.cwd()),
    }
    leave("life", {**told, **said, "pid": os.getpid()})
    answer()


def read(name: str) -> str:
    """A file of the folder, or nothing."""
    try:
        return (FOLDER / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def leave(name: str, what: object) -> None:
    """Write a file that is there as a whole or not at all."""
    partial = FOLDER / f"{name}.partial"
    partial.write_text(what if isinstance(what, str) else json.dumps(what), encoding="utf-8")
    partial.rename(FOLDER / name)


def say(message: object) -> None:
    """Tell the stem, or end if there is none."""
    try:
        os.write(REPORT, json.dumps(message).encode() + b"\n")
    except BrokenPipeError:
        os._exit(3)


def report(mode: str) -> None:
    """The heartbeat; in mode `stuck` only the first beat."""
    while True:
        text = read("report.json")
        if text:
            say(json.loads(text))
            leave("reported", "yes")
        if mode == "stuck":
            return
        time.sleep(PERIOD_SECONDS)


def follow(mode: str) -> None:
    """Keep the log, and say why the engine ended."""
    with (FOLDER / "log").open("ab", buffering=0) as file:
        while data := os.read(LOG, 65536):
            file.write(data)
    if mode != "speechless":
        say({"last_words": f"root cause: {read('cause')}"})


def be_told(*_: object) -> None:
    """The end was asked for."""
    leave("leaving", "yes")


def be_replaced(*_: object) -> None:
    """End as one that has a successor, between two clients."""
    REPLACED.set()


def give_up(*_: object) -> None:
    """Have the engine ended."""
    say({"end": "no step for 60 s with 8 requests in flight"})


def answer() -> None:
    """Say over HTTP who answers. Nobody whose connection was accepted is left without an answer."""
    while not REPLACED.is_set():
        if not select.select([SOCKET], [], [], 0.05)[0]:
            continue
        with contextlib.suppress(BlockingIOError):
            client, _ = SOCKET.accept()
            client.settimeout(10)
            client.recv(4096)
            body = f"judge {os.getpid()}".encode()
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
            client.close()
    os._exit(REPLACE)


if __name__ == "__main__":
    main()
