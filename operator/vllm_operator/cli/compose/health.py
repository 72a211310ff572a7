"""Health check of an engine in a container: `health.py PORT MODEL PATH...` asks for the smallest work that there is.

vLLM's own /health answers while the engine hangs, so an answer to a prompt is the proof. Of several paths the first
that the server has is asked: it depends on what the model is for. Standard library only, and past any proxy.
"""

import contextlib
import http.client
import json
import os
import sys

PROMPTS: "dict[str, dict[str, object]]" = {
    "/v1/completions": {"prompt": "a", "max_tokens": 1},
    "/pooling": {"input": "a"},
}
TIMEOUT_SECONDS = 20
NO_SUCH_PATH = b'{"detail":"Not Found"}'


def ask(port: int, model: str, path: str) -> tuple[int, bytes]:
    """Status and content of the answer to the smallest prompt."""
    key = os.environ.get("VLLM_API_KEY")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps({"model": model, **PROMPTS[path]}), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def check(port: int, model: str, paths: list[str]) -> str:
    """What is wrong; empty if the engine works."""
    for path in paths:
        try:
            status, content = ask(port, model, path)
        except (OSError, http.client.HTTPException) as error:
            return f"{path}: {error!r}"
        if content != NO_SUCH_PATH:
            return "" if status == http.client.OK else f"{path}: HTTP {status}: {content[:200]!r}"
    return f"the server has none of {', '.join(paths)}"


if __name__ == "__main__":
    sys.exit(check(int(sys.argv[1]), sys.argv[2], sys.argv[3:]) or 0)
