"""A newer program on disk: when it is there, and whether the running judge may give way to it.

The folder is a ConfigMap's volume, whose files kubelet replaces all at once by swapping a symbolic link. A newer
program is first run in a child (`program.py --check`), which has to come to a verdict on what the running judge
remembers. The pods of a fleet do so at different moments, so that a program that passes and is bad all the same does
not reach all of them at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FOLDER = os.path.dirname(os.path.abspath(__file__))
LINK = "..data"
"""What kubelet swaps."""
WATCH_SECONDS = 10.0
STAGGER_SECONDS = 60.0
SETTLED_SECONDS = 6.0
"""So long a judge runs at least: the stem takes one that gives way within 5 s for a fault."""
CHECK_SECONDS = 20.0
"""A newer program has to come to its verdict within this time."""
ERROR_LENGTH = 300
PRIVATE = "GATE_"
"""Names of the environment's variables that belong to the running judge alone begin so."""


def digest_of(files: Mapping[str, bytes]) -> str:
    """A short name for a program, by the names and contents of its files.

    It guards against mistakes, not against people: who can change the files needs no collision.
    """
    checksum = 0
    for name, content in sorted(files.items()):
        checksum = zlib.crc32(content, zlib.crc32(name.encode() + b"\0", checksum))
    return f"{checksum:08x}"


def digest(folder: str = FOLDER) -> str:
    """The name of the program in a folder.

    Raises:
        OSError: a file cannot be read, for example since all are just being replaced.
    """
    return digest_of({name: _content(os.path.join(folder, name)) for name in _names(folder)})


def _names(folder: str) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith((".py", ".json"))]


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


LOADED = digest()
"""The program as it was when this module was loaded, which is before the others are."""


def signature(folder: str) -> tuple[object, ...]:
    """What changes with the files, and is cheap to look at.

    Raises:
        OSError: as `digest`.
    """
    link = os.path.join(folder, LINK)
    target = os.readlink(link) if os.path.islink(link) else ""
    about = [(name, os.stat(os.path.join(folder, name))) for name in sorted(_names(folder))]
    return (target, *((name, found.st_mtime_ns, found.st_ino, found.st_size) for name, found in about))


def stagger(pod: str) -> float:
    """Seconds that this pod waits before it checks a newer program: each pod its own, between 0 and a minute."""
    return zlib.crc32(pod.encode()) / 2**32 * STAGGER_SECONDS


class RefusedError(Exception):
    """A newer program does not pass; the message says why."""


def check(folder: str, words: Sequence[str], handed_on: Mapping[str, object]) -> None:
    """Run the program in the folder on what the next judge would get.

    Raises:
        RefusedError: it fails, takes too long, or would take the admission away.
    """
    package = os.path.basename(folder)
    command = [sys.executable, "-S", "-E", "-B", "-m", f"{package}.program", "--check", *words]
    environment = {name: text for name, text in os.environ.items() if not name.startswith(PRIVATE)}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(handed_on).encode(),
            capture_output=True,
            cwd=os.path.dirname(folder),
            env=environment,
            timeout=CHECK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RefusedError(f"it comes to no verdict within {CHECK_SECONDS:.0f} s") from None
    except OSError as error:
        raise RefusedError(f"it cannot be started: {error.strerror}") from None
    if done.returncode != 0:
        raise RefusedError(_last_line(done.stderr) or f"it ends with exit code {done.returncode}")
    _compare(done.stdout, handed_on)


def _compare(output: bytes, handed_on: Mapping[str, object]) -> None:
    try:
        found = json.loads(output)
        admitted, ready = found["admitted"], found["ready"]
    except (ValueError, KeyError, TypeError):
        raise RefusedError("it says nothing of a verdict") from None
    if handed_on.get("startup") and not admitted:
        raise RefusedError("it does not know an engine as admitted that is")
    if handed_on.get("ready") and not ready:
        raise RefusedError("it withdraws an engine that serves and makes steps")


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:ERROR_LENGTH] if lines else ""


class Update:
    """The watch on the folder. One thread asks it, once a look; a check runs beside the looks."""

    def __init__(
        self, words: Sequence[str], *, wait: float, now: float, running: str = LOADED, folder: str = FOLDER
    ) -> None:
        self._words = words
        self._folder = folder
        self._running = running
        self._wait = wait
        self._settled_at = now + SETTLED_SECONDS
        self._looked_at = now
        self._signature: tuple[object, ...] = ()
        self._candidate: str | None = None
        self._due_at = 0.0
        self._refused: str | None = None
        self._check: threading.Thread | None = None
        self._outcome: str | None = None
        """Of a check: why the program was refused; empty: it passed; None: it runs."""
        self.trouble = ""
        """Why a newer program does not run."""

    def wanted(self, now: float, handed_on: Callable[[], Mapping[str, object]]) -> bool:
        """Whether a newer program is there that has passed its check. Otherwise look for one, now and then.

        Args:
            now: The monotonic clock.
            handed_on: What the next judge would get.
        """
        if self._check is not None:
            return self._passed()
        if now - self._looked_at >= WATCH_SECONDS:
            self._looked_at = now
            self._watch(now)
        if self._candidate is not None and now >= self._due_at:
            self._start(handed_on())
        return False

    def _watch(self, now: float) -> None:
        try:
            seen = signature(self._folder)
            if seen == self._signature:
                return
            found = digest(self._folder)
        except OSError:
            return  # they are being replaced: the next look sees them
        self._signature = seen
        if found == self._running:
            self._candidate, self._refused, self.trouble = None, None, ""
        elif found not in (self._candidate, self._refused):
            due_at = max(now + self._wait, self._settled_at)
            self._candidate, self._due_at, self.trouble = found, due_at, ""
        elif found == self._refused:
            self._candidate = None

    def _start(self, handed_on: Mapping[str, object]) -> None:
        self._outcome = None
        self._check = threading.Thread(target=self._run, args=(handed_on,), name="update", daemon=True)
        self._check.start()

    def _run(self, handed_on: Mapping[str, object]) -> None:
        try:
            check(self._folder, self._words, handed_on)
            self._outcome = ""
        except RefusedError as refusal:
            self._outcome = str(refusal)
        except Exception as error:  # noqa: BLE001 # a mistake of ours in checking is no reason to run what is unchecked
            self._outcome = f"its check failed: {error!r}"

    def _passed(self) -> bool:
        """Whether the check is over and has passed what is still on disk."""
        outcome, candidate = self._outcome, self._candidate
        if outcome is None:
            return False
        self._check = None
        try:
            unchanged = digest(self._folder) == candidate
        except OSError:
            unchanged = False
        if not unchanged:
            self._candidate, self._signature = None, ()  # seen anew at the next look
            return False
        if outcome:
            self._refused, self._candidate = candidate, None
            self.trouble = f"the newer program {candidate} is refused: {outcome}"
        return not outcome


def replaced_meanwhile() -> bool:
    """Whether the files were replaced while they were being loaded: what runs then is a mixture."""
    try:
        return digest() != LOADED
    except OSError:
        time.sleep(1.0)  # kubelet's swap takes an instant; a folder that stays unreadable is no newer program
        return False
