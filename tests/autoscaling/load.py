"""Work for autoscaled engines: clients that ask all the time, and long requests to one engine each."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, Self

from tests.support import images

if TYPE_CHECKING:
    from types import TracebackType

    from tests.support.site import Site

PROMPT_WORDS: Final = 20
STEP_SECONDS: Final = 0.1
ENGINE: Final[dict[str, Any]] = {
    "maxNumSeqs": 2,
    "shutdownDelaySeconds": 2,
    "shutdownTimeoutSeconds": 58,
    "maxModelLen": 16384,
}
"""An engine that works on two requests at once, at PROMPT_WORDS * STEP_SECONDS each: whatever is more waits in it."""

_ASK: Final = f"""
import asyncio, json, signal, sys
from vllm_client import create_llm_client

END = asyncio.Event()
COUNTS = {{"asked": 0, "lost": []}}

async def ask(llm, number):
    while not END.is_set():
        COUNTS["asked"] += 1
        try:
            await llm.complete(" ".join([f"question-{{number}}"] * {PROMPT_WORDS}), max_tokens={PROMPT_WORDS})
        except Exception as error:
            COUNTS["lost"].append(f"{{type(error).__name__}}: {{error}}"[:200])
        await asyncio.sleep(0.05)

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, END.set)
    async with create_llm_client("vllm", {{"timeout": 120}}) as llm:
        print("asking", flush=True)
        await asyncio.gather(*(ask(llm, number) for number in range(int(sys.argv[1]))))
    print(json.dumps(COUNTS), flush=True)

asyncio.run(main())
"""

_POST: Final = """
import json, sys, urllib.request
body = {"model": sys.argv[2], "prompt": "w " * int(sys.argv[3]), "max_tokens": int(sys.argv[3])}
headers = {"Content-Type": "application/json"}
request = urllib.request.Request(f"http://{sys.argv[1]}:8000/v1/completions", json.dumps(body).encode(), headers)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
answer = json.load(opener.open(request, timeout=900))
print(answer["choices"][0]["finish_reason"])
"""


def asking(site: Site, model: str, at_once: int) -> str:
    """A pod in which so many tasks of our client library ask a model until they are told to end."""
    pod = f"{model}-asks-{at_once}"
    container = {
        "name": "client",
        "image": images.CLIENT,
        "command": ["python3", "-c", _ASK, str(at_once)],
        "envFrom": [{"configMapRef": {"name": f"{model}-client"}}],
    }
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 120, "containers": [container]}
    site.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": spec})
    site.until("the client asks", lambda: "asking" in site.kubectl("logs", pod, "--ignore-errors"), 120.0)
    return pod


def ended(site: Site, pod: str) -> dict[str, Any]:
    """How many requests a client made, and what became of those that it lost."""
    site.kubectl("exec", pod, "--", "python3", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
    over = ("Succeeded", "Failed")
    site.until("the client has ended", lambda: site.get("pod", pod)["status"]["phase"] in over, 150.0)
    found: dict[str, Any] = json.loads(site.kubectl("logs", pod).splitlines()[-1])
    return found


class LongRequest:
    """A request to one engine that takes so many seconds; ended with the block at the latest."""

    def __init__(self, site: Site, model: str, pod: str, seconds: float) -> None:
        self.pod = pod
        address = site.get("pod", pod)["status"]["podIP"]
        words = [sys.executable, "-c", _POST, address, model, str(int(seconds / STEP_SECONDS))]
        self._process = subprocess.Popen(site.cluster.inside(words), stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def answer(self, seconds: float) -> str:
        """How it ended: `length` where the engine has given every word of the answer that was asked for."""
        printed, _ = self._process.communicate(timeout=seconds)
        return printed.strip()
