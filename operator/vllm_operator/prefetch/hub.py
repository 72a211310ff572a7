"""The Hugging Face hub, or a mirror of it."""

from __future__ import annotations

import json
import urllib.parse

from . import faults
from .faults import Fault
from .listing import Digest, Listing, RemoteFile, is_safe, wanted
from .transport import FORBIDDEN, NOT_FOUND, UNAUTHORIZED, Refused, host_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .transport import Transport

ENDPOINT = "https://huggingface.co"

_COMMIT_DIGITS = 40


class Hub:
    """One revision of a repository."""

    def __init__(self, repository: str, revision: str, *, endpoint: str = "", token: str = "") -> None:
        self.repository = repository
        self.revision = revision
        self._endpoint = (endpoint or ENDPOINT).rstrip("/")
        self._token = token

    def headers(self, url: str) -> dict[str, str]:  # noqa: ARG002 # other sources sign each address
        """What a request has to bring."""
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def listing(self, transport: Transport, allow: Sequence[str], ignore: Sequence[str]) -> Listing:
        """The files of the revision, by the commit that it is now (GET /api/models/ID/revision/REVISION?blobs=true).

        Raises:
            Fault: the hub does not tell them.
        """
        revision = urllib.parse.quote(self.revision, safe="")
        url = f"{self._endpoint}/api/models/{self.repository}/revision/{revision}?blobs=true"
        try:
            answer = json.loads(transport.read(url, self.headers(url)))
            commit, siblings = str(answer["sha"]), {str(one["rfilename"]): one for one in answer["siblings"]}
        except Refused as refusal:
            raise self.fault(refusal) from refusal
        except (ValueError, LookupError, TypeError) as error:
            raise Fault(faults.WRONG_ANSWER, f"{host_of(url)} does not answer as a hub: is it one?") from error
        if len(commit) != _COMMIT_DIGITS or not commit.isalnum() or not all(map(is_safe, siblings)):
            raise Fault(faults.WRONG_ANSWER, f"{host_of(url)} lists what is no revision of {self.repository}")
        kept = wanted(sorted(siblings), allow, ignore)
        return Listing(tuple(self._file(path, commit, siblings[path]) for path in kept), commit)

    def fault(self, refusal: Refused) -> Fault:
        """Why the hub refuses, or the storage that it hands large files over to."""
        host = host_of(refusal.url)
        if host != host_of(self._endpoint) and refusal.status in (UNAUTHORIZED, FORBIDDEN):
            told = f"the hub hands files over to {host}, which refuses them (HTTP {refusal.status})"
            return Fault(faults.UNREACHABLE, f"{told}: does a proxy or a firewall?")
        return self._own_fault(refusal)

    def _own_fault(self, refusal: Refused) -> Fault:
        """Why the hub itself refuses, by the header with which it tells reasons apart."""
        code, host = refusal.headers.get("X-Error-Code", ""), host_of(refusal.url)
        name = f"{self.repository} on {host}"
        secret = "a token of it in spec.model.tokenSecret"  # noqa: S105 # words, and no password
        if code == "GatedRepo" or (refusal.status == FORBIDDEN and "gated" in refusal.body.lower()):
            return Fault(
                faults.GATED,
                f"{name} is gated: accept its conditions there with the account of {secret}, which has to be set",
            )
        if code == "RevisionNotFound":
            return Fault(faults.WRONG_REVISION, f"{name} has no revision {self.revision}: correct spec.model.revision")
        if code == "RepoNotFound" or (not code and refusal.status == UNAUTHORIZED):
            return Fault(
                faults.NOT_FOUND if not self._token else faults.UNAUTHORIZED,
                f"{name} does not exist, or is private: correct spec.model.source, or set {secret} that may read it",
            )
        if refusal.status in (UNAUTHORIZED, FORBIDDEN):
            return Fault(faults.UNAUTHORIZED, f"{name} refuses the token (HTTP {refusal.status}): set {secret}")
        if refusal.status == NOT_FOUND:
            return Fault(faults.NOT_FOUND, f"{name} does not exist: correct spec.model.source")
        return refusal.fault()

    def _file(self, path: str, commit: str, sibling: Mapping[str, object]) -> RemoteFile:
        stored, size = sibling.get("lfs"), sibling.get("size")
        large = stored if isinstance(stored, dict) else {}
        sha256, blob = large.get("sha256"), sibling.get("blobId")
        digest = Digest("sha256", str(sha256)) if sha256 else Digest("git-sha1", str(blob)) if blob else None
        size = large.get("size", size)
        url = f"{self._endpoint}/{self.repository}/resolve/{commit}/{urllib.parse.quote(path)}"
        return RemoteFile(path, url, size if isinstance(size, int) else None, digest)
