"""A client as applications are: one request after the other through the Service, each with a deadline.

    python client.py URL MODEL --workers N --deadline SECONDS --tokens N --prompt-words N --pause SECONDS
        [--extra JSON [--fresh]] [--keep]

has a new connection for each request, unless it is to keep one for as long as requests are answered. It prints READY
as soon as it may be stopped, and at its end a line of JSON for each request: nobody reads a pipe for 20 minutes, and
one that is full would stop the requests. Each worker asks at least once, since who has not asked has seen nothing. With
--fresh, each FRESH in the extra fields becomes a word that no request has had before: a server that keeps the grammars
of schemas has to make each anew. It stops by itself after --seconds, and on SIGTERM after the requests that are under
way. Standard library only: it runs with any Python in the cluster's network.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import sys
import threading
import time
import uuid
from urllib.parse import urlsplit

READY = "ready\n"
END = threading.Event()
ENDED: list[str] = []
"""The lines of the requests that have ended."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--deadline", type=float, default=5.0)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--prompt-words", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--extra", default="{}")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--seconds", type=float, default=400.0)
    options = parser.parse_args()
    # A handler that takes the event's lock would wait for itself for ever when a second SIGTERM interrupts it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=end_when_asked, daemon=True).start()
    until = time.monotonic() + options.seconds
    workers = [threading.Thread(target=work, args=(options, until)) for _ in range(options.workers)]
    for worker in workers:
        worker.start()
    sys.stdout.write(READY)
    sys.stdout.flush()
    for worker in workers:
        worker.join()
    sys.stdout.writelines(ENDED)


def end_when_asked() -> None:
    """Wait for SIGTERM, which every thread blocks."""
    signal.sigwait({signal.SIGTERM})
    END.set()


def work(options: argparse.Namespace, until: float) -> None:
    """Ask, again and again."""
    connection = connection_of(options)
    while True:
        began = time.monotonic()
        trouble = ask(options, connection)
        if trouble or not options.keep:
            connection.close()
            connection = connection_of(options)
        ENDED.append(json.dumps({"began": began, "ended": time.monotonic(), "trouble": trouble}) + "\n")
        if trouble:
            END.wait(0.2)  # a refused connection fails at once, and would be counted thousands of times
        END.wait(options.pause)
        if END.is_set() or time.monotonic() >= until:
            break
    connection.close()


def connection_of(options: argparse.Namespace) -> http.client.HTTPConnection:
    """A connection that opens with its first request."""
    place = urlsplit(options.url)
    return http.client.HTTPConnection(place.hostname or "", place.port, timeout=options.deadline)


def ask(options: argparse.Namespace, connection: http.client.HTTPConnection) -> str:
    """What went wrong with one request; empty where it was answered."""
    prompt = " ".join(["word"] * options.prompt_words)
    extra = json.loads(options.extra.replace("FRESH", uuid.uuid4().hex) if options.fresh else options.extra)
    body = {"model": options.model, "prompt": prompt, "max_tokens": options.tokens, "ignore_eos": True, **extra}
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
    except OSError as error:
        return type(error).__name__
    except http.client.HTTPException as error:
        return type(error).__name__
    if answer.status != http.HTTPStatus.OK:
        return f"HTTP {answer.status}"
    finished = json.loads(content)["choices"][0]["finish_reason"]
    return "" if finished in {"stop", "length"} else f"finish_reason {finished}"


if __name__ == "__main__":
    main()
