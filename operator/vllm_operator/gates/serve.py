"""The start of a vLLM engine that takes several API keys, which must stand on no command line.

    serve.py --keys VARIABLE... -- vllm serve MODEL [arguments]

vLLM reads one key from its environment and several only as arguments, where everybody who sees the node's processes can
read them. It takes a file of arguments as well, and one in memory that only its own user can read shows them to nobody.
A list in that file needs vLLM 0.10.2; an older one takes all keys for a single one, so its gate says 401 Unauthorized.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = "/run/vllm-gates"
FILE = "keys.yaml"
NOT_FOUND = 127
"""Exit code of a shell whose command is not there."""


def main(words: list[str], environment: Mapping[str, str], folder: str = FOLDER) -> int:
    """Become the engine; returns only where that fails, with an exit code.

    Raises:
        OSError: the file cannot be written.
    """
    end = words.index("--")
    names, command = words[1:end], words[end + 1 :]
    path = os.path.join(folder, FILE)
    write(path, [environment[name] for name in names if environment.get(name)])
    try:
        os.execvp(command[0], [*command, "--config", path])  # noqa: S606 # it becomes the engine
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error}\n")
    return NOT_FOUND


def write(path: str, keys: list[str]) -> None:
    """The file of arguments, for the engine's user alone. JSON is YAML."""
    mode = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(path, mode, 0o600), "w", encoding="utf-8") as file:
        json.dump({"api-key": keys}, file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
