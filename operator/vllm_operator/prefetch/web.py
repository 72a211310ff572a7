"""Any HTTP server: a folder whose file SHA256SUMS says what is in it."""

from __future__ import annotations

import urllib.parse

from . import faults
from .faults import Fault
from .listing import SUMS, Digest, Listing, RemoteFile, is_safe, sums_of, wanted
from .transport import NOT_FOUND, Refused, host_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .transport import Transport


class Web:
    """One folder of a server."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def headers(self, url: str) -> dict[str, str]:  # noqa: ARG002 # other sources sign each address
        """What a request has to bring: nothing."""
        return {}

    def listing(self, transport: Transport, allow: Sequence[str], ignore: Sequence[str]) -> Listing:
        """The files, as SHA256SUMS tells them.

        Raises:
            Fault: there is no such file, or it tells none.
        """
        url = f"{self._url}/{SUMS}"
        try:
            sums = sums_of(transport.read(url, {}).decode("utf-8", "replace"))
        except Refused as refusal:
            raise self.fault(refusal) from refusal
        if not sums or not all(map(is_safe, sums)):
            raise Fault(faults.WRONG_ANSWER, f"{url} tells no files: write it with `sha256sum * > {SUMS}`")
        try:
            files = [self._file(transport, path, sums[path]) for path in wanted(sorted(sums), allow, ignore)]
        except Refused as refusal:
            raise self.fault(refusal) from refusal
        return Listing(tuple(files))

    def fault(self, refusal: Refused) -> Fault:
        """Why the server refuses."""
        if refusal.status == NOT_FOUND and refusal.url.endswith(f"/{SUMS}"):
            told = (
                f"{host_of(refusal.url)} has no {SUMS} beside the model, which has to tell its files and their hashes"
            )
            return Fault(faults.NOT_FOUND, f"{told}: write it with `sha256sum * > {SUMS}`")
        return refusal.fault()

    def _file(self, transport: Transport, path: str, sha256: str) -> RemoteFile:
        url = f"{self._url}/{urllib.parse.quote(path)}"
        return RemoteFile(path, url, transport.size(url, {}), Digest("sha256", sha256))
