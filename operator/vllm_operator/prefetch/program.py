"""The order of things: what is marked as whole is left; else list, check, bring, check, mark; again until it is done.

It ends with exit code 0 once all is there, and never because something fails: what a person has to change, such as a
licence that is not accepted, is told under /status for as long as it lasts, and tried again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from . import faults
from .answers import serve
from .bucket import Bucket, Credentials
from .faults import Fault
from .fetch import Fetch, Stopped
from .hub import Hub
from .progress import Progress
from .store import Store, check_below
from .transport import Transport
from .web import Web

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .listing import Listing, RemoteFile

SETTINGS = "VLLM_PREFETCH"
"""The variable with the settings."""

TERMINATION_LOG = "/dev/termination-log"

SIDE_BY_SIDE = 4
"""Files at once. One connection of a storage behind a hub brings 50 to 100 MB/s."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 60.0
"""Between two tries of what may pass by itself."""

LASTING_PAUSE_SECONDS = 60.0
"""Between two tries of what does not change before somebody acts."""


@dataclass(frozen=True)
class Settings:
    """What one download is about."""

    key: str
    """What this download is told from others in the claim by."""
    kind: str
    """`hub`, `s3` or `web`."""
    source: str
    """The id on the hub, or a URL."""
    revision: str
    """Branch, tag or commit on the hub; empty for other sources."""
    cache: str
    """Folder that the claim is mounted at."""
    port: int
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> Settings:
        """The settings out of the variable; what an older program does not know is left out."""
        told = json.loads(text)
        plain = {name: told[name] for name in ("key", "kind", "source", "revision", "cache", "port")}
        return cls(**plain, allow=tuple(told.get("allow") or ()), ignore=tuple(told.get("ignore") or ()))


class Download:
    """One source on its way into the claim."""

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        progress: Progress,
        *,
        transport: Transport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._progress = progress
        self._transport = transport or Transport()
        self._sleep = sleep
        self._source = _source(settings, environment)
        hub = {"repository": settings.source, "revision": settings.revision} if settings.kind == "hub" else {}
        self._store = Store(settings.cache, settings.key, **hub)

    def run(self) -> None:
        """Try until all is there."""
        failures = 0
        while True:
            before = self._bytes_done()
            try:
                self.attempt()
            except Fault as fault:
                failures = 0 if self._bytes_done() > before else failures + 1
                seconds = _pause(fault, failures)
                self._progress.wait(fault, seconds)
                print(f"{fault.reason}: {fault.message}; again in {seconds:.0f} s", flush=True)
                self._sleep(seconds)
            else:
                return

    def attempt(self) -> None:
        """Bring what is missing, once.

        Raises:
            Fault: it does not go on now.
        """
        whole = self._store.whole()
        if whole:
            commit, sizes = whole
            self._progress.complete(commit, len(sizes), sum(sizes.values()))
            return
        listing = self._source.listing(self._transport, self._settings.allow, self._settings.ignore)
        if not listing.files:
            raise Fault(faults.NOT_FOUND, f"no file of {self._settings.source} is wanted: see allowPatterns")
        check_below(self._settings.cache, self._store.folder)
        self._progress.begin(listing.commit, len(listing.files), sum(file.size or 0 for file in listing.files))
        self._check_room(listing)
        self._bring(listing)
        self._store.finish(listing)
        whole = self._store.whole()
        if whole is None:
            raise Fault(faults.CORRUPT, "files have changed while others came: does something else write to the claim?")
        self._progress.complete(whole[0], len(whole[1]), sum(whole[1].values()))

    def _check_room(self, listing: Listing) -> None:
        """Begin nothing that the claim has no room for.

        Raises:
            Fault: it has none.
        """
        here = sum(map(self._bytes_here, self._unique(listing), [listing.commit] * len(listing.files)))
        missing = sum(file.size or 0 for file in self._unique(listing)) - here
        free = self._store.free_bytes()
        if missing > free:
            told = f"{missing / 1e9:.1f} GB are still to come, and the claim has room for {free / 1e9:.1f} GB"
            raise Fault(faults.DISK_FULL, f"{told}: make it larger, or delete what nobody needs")

    def _bytes_here(self, file: RemoteFile, commit: str) -> int:
        for path in (self._store.place(file, commit), self._store.part(file, commit)):
            if os.path.exists(path):
                return min(os.stat(path).st_size, file.size or 0)
        return 0

    def _unique(self, listing: Listing) -> list[RemoteFile]:
        """The files that are brought: of those with one content, on the hub, one."""
        return list({self._store.place(file, listing.commit): file for file in listing.files}.values())

    def _bring(self, listing: Listing) -> None:
        """Bring all files, some side by side; the first that fails has the others stop.

        Raises:
            Fault: what the first one said.
        """
        stop, found = threading.Event(), list[Fault]()

        def bring(file: RemoteFile) -> None:
            try:
                self._fetch(file, listing.commit, stop).run()
            except Fault as fault:
                found.append(fault)
                stop.set()
            except Stopped:
                return  # what the other one said is told

        unique = self._unique(listing)
        repeated = [file for file in listing.files if file not in unique]
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            list(pool.map(bring, unique))
        if found:
            raise found[0]
        for file in repeated:
            self._progress.found(file.size or 0)
            self._progress.ended(file.size or 0, file.size)

    def _fetch(self, file: RemoteFile, commit: str, stop: threading.Event) -> Fetch:
        return Fetch(
            file,
            self._store.place(file, commit),
            self._store.part(file, commit),
            transport=self._transport,
            headers=self._source.headers,
            explain=self._source.fault,
            progress=self._progress,
            stop=stop,
            sleep=self._sleep,
        )

    def _bytes_done(self) -> int:
        done = self._progress.document()["bytes_done"]
        return done if isinstance(done, int) else 0


def _source(settings: Settings, environment: Mapping[str, str]) -> Hub | Bucket | Web:
    if settings.kind == "hub":
        endpoint, token = environment.get("HF_ENDPOINT", ""), environment.get("HF_TOKEN", "")
        return Hub(settings.source, settings.revision, endpoint=endpoint, token=token)
    if settings.kind == "s3":
        return Bucket(settings.source, Credentials.of(environment))
    return Web(settings.source)


def _pause(fault: Fault, failures: int) -> float:
    """Seconds until the next try."""
    if fault.retry_after_seconds:
        return fault.retry_after_seconds
    if fault.reason in faults.LASTING:
        return LASTING_PAUSE_SECONDS
    return min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 10), LONGEST_PAUSE_SECONDS)


def main() -> int:
    """Bring what the environment asks for; returns the exit code."""
    # process 1 of a container has no default for it, and what lies in the claim is good for the next try
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    settings = Settings.of(os.environ[SETTINGS])
    progress = Progress()
    serve(progress, settings.port)
    print(f"bringing {settings.source} {settings.revision}".rstrip(), flush=True)
    Download(settings, os.environ, progress).run()
    text = json.dumps(progress.document())
    print(text, flush=True)
    try:
        with open(TERMINATION_LOG, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        print(f"cannot write {TERMINATION_LOG}: {error}", file=sys.stderr, flush=True)
    return 0
