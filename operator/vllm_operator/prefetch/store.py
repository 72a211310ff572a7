"""Where the files of one source lie in the claim, and the mark that all of them are there.

What comes from the hub lies as huggingface_hub keeps it, so that an engine finds it offline:
`huggingface/hub/models--ORG--NAME/{blobs,refs,snapshots}`. Anything else lies in a folder of its own. Files that are
not whole have a name that nobody looks for, and the key of the download in it: no two downloads write the same one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil

from . import faults
from .faults import Fault, of_disk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .listing import Listing, RemoteFile

FOLDER = "vllm-prefetch"
"""Folder of the claim with the marks, and with the files of sources that are not the hub."""

HUB_FOLDER = "huggingface/hub"


def marker_path(cache: str, key: str) -> str:
    """The file that says that a download is whole."""
    return os.path.join(cache, FOLDER, f"{key}.json")


def write(path: str, text: str) -> None:
    """Write a file that is either as it was or whole, also after the node's power fails.

    Raises:
        Fault: the claim does not take it.
    """
    draft = f"{path}.draft"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise of_disk(error, os.path.dirname(path)) from error


class Store:
    """The files of one source in the claim."""

    def __init__(self, cache: str, key: str, *, repository: str = "", revision: str = "") -> None:
        """`repository` and `revision` are those on the hub; empty for any other source."""
        self._cache = cache
        self._key = key
        self._revision = revision
        name = "models--" + repository.replace("/", "--")
        self._root = os.path.join(cache, HUB_FOLDER, name) if repository else os.path.join(cache, FOLDER, key)
        self._is_hub = bool(repository)

    @property
    def folder(self) -> str:
        """The folder of all that is brought."""
        return self._root

    def place(self, file: RemoteFile, commit: str) -> str:
        """Where a file goes when it is whole."""
        if not self._is_hub:
            return os.path.join(self._root, file.path)
        if file.digest is None:
            return self._snapshot(file, commit)
        return os.path.join(self._root, "blobs", file.digest.text)

    def part(self, file: RemoteFile, commit: str) -> str:
        """Where it lies until then."""
        return f"{self.place(file, commit)}.{self._key}.incomplete"

    def finish(self, listing: Listing) -> None:
        """Make the files found by their names, and then mark the download as whole.

        Raises:
            Fault: the claim does not take it.
        """
        sizes = {}
        try:
            for file in listing.files:
                if self._is_hub:
                    self._link(file, listing.commit)
                sizes[file.path] = os.stat(self._found(file, listing.commit)).st_size
        except OSError as error:
            raise of_disk(error, self._root) from error
        if self._is_hub and self._revision != listing.commit:
            write(os.path.join(self._root, "refs", self._revision), listing.commit)
        write(marker_path(self._cache, self._key), json.dumps({"commit": listing.commit, "files": sizes}))

    def whole(self) -> tuple[str, dict[str, int]] | None:
        """The commit and the sizes of a download that is marked as whole, if all of its files are there."""
        try:
            with open(marker_path(self._cache, self._key), encoding="utf-8") as file:
                told = json.load(file)
            commit, sizes = str(told["commit"]), {str(path): int(size) for path, size in told["files"].items()}
            found = {path: os.stat(self._named(path, commit)).st_size for path in sizes}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
        return (commit, sizes) if found == sizes else None

    def free_bytes(self) -> int:
        """Room that the claim has.

        Raises:
            Fault: it cannot be written to.
        """
        try:
            os.makedirs(self._root, exist_ok=True)
            found = os.statvfs(self._root)
        except OSError as error:
            raise of_disk(error, self._root) from error
        return found.f_bavail * found.f_frsize

    def _named(self, path: str, commit: str) -> str:
        return os.path.join(self._root, "snapshots", commit, path) if self._is_hub else os.path.join(self._root, path)

    def _snapshot(self, file: RemoteFile, commit: str) -> str:
        return os.path.join(self._root, "snapshots", commit, file.path)

    def _found(self, file: RemoteFile, commit: str) -> str:
        return self._named(file.path, commit)

    def _link(self, file: RemoteFile, commit: str) -> None:
        """A link from the snapshot to the content, as huggingface_hub makes it; a copy where there are no links."""
        source, target = self.place(file, commit), self._snapshot(file, commit)
        if source == target or os.path.exists(target):
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)  # it leads nowhere
        try:
            os.symlink(os.path.relpath(source, os.path.dirname(target)), target)
        except OSError as error:
            if error.errno in faults.FULL:
                raise
            shutil.copyfile(source, target)


def check_below(cache: str, folder: str) -> None:
    """Make sure that what is brought lies in the claim.

    Raises:
        Fault: it does not.
    """
    if os.path.commonpath([os.path.realpath(cache), os.path.realpath(folder)]) != os.path.realpath(cache):
        raise Fault(faults.NOT_WRITABLE, f"{folder} leads out of the claim: a link in it?")
