"""Several API keys for the engine, which must stand on no command line.

vLLM reads one key from its environment and several only as arguments, where everybody who sees the node's processes can
read them. It takes a file of arguments as well (`--config`, whose name must end in .yaml), and one in memory that only
its own user can read shows them to nobody. A list in that file needs vLLM 0.10.2; an older one takes all keys for a
single one, so its gate says 401 Unauthorized.
"""

from __future__ import annotations

import contextlib
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDERS = ("/run/vllm-manager", "/dev/shm")  # noqa: S108 # both are in memory, and the file is its user's alone
"""Where the file may lie, the first one that can be written."""

FILE = "vllm-keys.yaml"


class NoKeysError(Exception):
    """The keys cannot be handed to the engine; says why and what to do."""


def arguments(names: Sequence[str], environment: Mapping[str, str], folders: Sequence[str]) -> list[str]:
    """What the engine's command line needs so that it takes the keys in these variables. An empty key is none.

    Raises:
        NoKeysError: there is no key at all, or no place for the file.
    """
    keys = [environment[name] for name in names if environment.get(name)]
    if not keys:
        raise NoKeysError(
            f"none of the variables {', '.join(names)} holds an API key, and without one the server would be open to "
            "all: fill the Secret that they come from"
        )
    troubles = []
    for folder in folders:
        try:
            return ["--config", write(os.path.join(folder, FILE), keys)]
        except OSError as error:
            troubles.append(f"{folder}: {error.strerror}")
    raise NoKeysError(
        f"the API keys have no place that only the engine can read ({'; '.join(troubles)}): mount a writable emptyDir "
        f"with medium Memory at {folders[0]}"
    )


def write(path: str, keys: Sequence[str]) -> str:
    """Make the file of arguments, for the engine's user alone. JSON is YAML.

    Raises:
        OSError: it cannot be made.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # of an earlier container in this pod; never written to, since others may have made it
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump({"api-key": list(keys)}, file)
    return path
