"""A bucket of S3, or of a store that speaks its protocol: ListObjectsV2 and GetObject, signed by Signature Version 4.

The signature is that of AWS General Reference, "Create a signed AWS API request"; the addresses are of path style,
which every such store knows.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
import urllib.parse
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from . import faults
from .faults import Fault
from .listing import SUMS, Digest, Listing, RemoteFile, is_safe, sums_of, wanted, with_sums
from .transport import FORBIDDEN, NOT_FOUND, UNAUTHORIZED, Refused, host_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .transport import Transport

EMPTY = hashlib.sha256(b"").hexdigest()
_MD5 = re.compile(r"[0-9a-f]{32}")
"""An ETag of an object that was uploaded in one part, where its store does not encrypt by keys of a service."""

_CODE = re.compile(r"<Code>(\w+)</Code>")


@dataclass(frozen=True)
class Credentials:
    """Who asks; without a key, nobody in particular."""

    key_id: str = ""
    secret: str = ""
    session: str = ""
    region: str = "us-east-1"
    endpoint: str = ""
    """URL of the store; empty for Amazon's."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Credentials:
        """What the variables of AWS's own tools say."""
        endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL", "")
        return cls(
            environment.get("AWS_ACCESS_KEY_ID", ""),
            environment.get("AWS_SECRET_ACCESS_KEY", ""),
            environment.get("AWS_SESSION_TOKEN", ""),
            environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1",
            endpoint.rstrip("/"),
        )

    @property
    def address(self) -> str:
        """URL of the store."""
        return self.endpoint or f"https://s3.{self.region}.amazonaws.com"


def signed(url: str, who: Credentials, now: float) -> dict[str, str]:
    """The headers that sign a GET of an address, whose query has to be sorted and quoted already."""
    parts = urllib.parse.urlsplit(url)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    headers = {"host": parts.netloc, "x-amz-content-sha256": EMPTY, "x-amz-date": stamp}
    if who.session:
        headers["x-amz-security-token"] = who.session
    names = ";".join(sorted(headers))
    told = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"GET\n{parts.path or '/'}\n{parts.query}\n{told}\n{names}\n{EMPTY}"
    scope = f"{stamp[:8]}/{who.region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{who.secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    authorization = f"AWS4-HMAC-SHA256 Credential={who.key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    rest = {name: value for name, value in headers.items() if name != "host"}
    return {**rest, "Authorization": authorization}


class Bucket:
    """What lies below a prefix in a bucket."""

    def __init__(self, source: str, credentials: Credentials) -> None:
        bucket, _, prefix = source.removeprefix("s3://").partition("/")
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._who = credentials

    def headers(self, url: str) -> dict[str, str]:
        """What a request has to bring."""
        return signed(url, self._who, time.time()) if self._who.key_id else {}

    def listing(self, transport: Transport, allow: Sequence[str], ignore: Sequence[str]) -> Listing:
        """The objects, with the hashes that SHA256SUMS beside them tells, or else those of their ETags.

        Raises:
            Fault: the store does not tell them.
        """
        try:
            found = {file.path: file for file in self._objects(transport) if not file.path.endswith("/")}
            sums = self._sums(transport, found)
        except Refused as refusal:
            raise self.fault(refusal) from refusal
        if not all(map(is_safe, found)):
            raise Fault(faults.WRONG_ANSWER, f"s3://{self._bucket}/{self._prefix} has names that are no paths of files")
        kept = wanted(sorted(found), allow, ignore)
        missing = [path for path in wanted(sorted(sums), allow, ignore) if path not in found]
        if missing or not kept:
            what = missing[0] if missing else "model"
            raise Fault(faults.NOT_FOUND, f"there is no {what} in s3://{self._bucket}/{self._prefix}: is it uploaded?")
        return Listing(with_sums((found[path] for path in kept), sums))

    def fault(self, refusal: Refused) -> Fault:
        """Why the store refuses."""
        code = (_CODE.search(refusal.body) or ["", ""])[1]
        where, host = f"s3://{self._bucket}", host_of(refusal.url)
        if code in ("SlowDown", "RequestLimitExceeded"):
            return Fault(faults.RATE_LIMITED, f"{host} limits the rate of requests", refusal.retry_after_seconds)
        if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"):
            region = refusal.headers.get("x-amz-bucket-region", "")
            advice = f": set AWS_REGION in spec.engine.env{f' to {region}' if region else ''}"
            return Fault(faults.UNAUTHORIZED, f"{where} is in another region than {self._who.region}{advice}")
        if refusal.status in (UNAUTHORIZED, FORBIDDEN):
            told = f"{host} lets nobody read {where}/{self._prefix} with these credentials ({code or refusal.status})"
            advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in spec.engine.env or envFrom"
            return Fault(faults.UNAUTHORIZED, f"{told}: {advice}")
        if refusal.status == NOT_FOUND:
            return Fault(faults.NOT_FOUND, f"{host} has no {where} ({code or NOT_FOUND}): correct spec.model.source")
        return refusal.fault()

    def _objects(self, transport: Transport) -> Iterator[RemoteFile]:
        token = ""
        while True:
            query = {"list-type": "2", "prefix": self._prefix}
            if token:
                query["continuation-token"] = token
            text = "&".join(f"{name}={urllib.parse.quote(query[name], safe='')}" for name in sorted(query))
            url = f"{self._who.address}/{self._bucket}?{text}"
            answer = _xml(transport.read(url, self.headers(url)), url)
            for found in answer.iter("Contents"):
                yield self._file(found)
            token = answer.findtext("NextContinuationToken") or ""
            if answer.findtext("IsTruncated") != "true" or not token:
                return

    def _file(self, found: ET.Element) -> RemoteFile:
        key, size = found.findtext("Key") or "", found.findtext("Size") or ""
        version = found.findtext("ETag") or ""
        text = version.strip('"')
        digest = Digest("md5", text) if _MD5.fullmatch(text) else None
        url = f"{self._who.address}/{self._bucket}/{urllib.parse.quote(key, safe='/~')}"
        number = int(size) if size.isdigit() else None
        return RemoteFile(key[len(self._prefix) :], url, number, digest, version)

    def _sums(self, transport: Transport, found: Mapping[str, RemoteFile]) -> dict[str, str]:
        file = found.get(SUMS)
        if file is None:
            return {}
        return sums_of(transport.read(file.url, self.headers(file.url)).decode("utf-8", "replace"))


def _xml(content: bytes, url: str) -> ET.Element:
    """An answer without its namespaces.

    Raises:
        Fault: it is none of a store.
    """
    try:
        root = ET.fromstring(re.sub(rb'\sxmlns="[^"]*"', b"", content, count=1))  # noqa: S314 # expat limits it
    except ET.ParseError as error:
        raise Fault(faults.WRONG_ANSWER, f"{host_of(url)} does not answer as an S3 store: is it one?") from error
    if root.tag != "ListBucketResult":
        raise Fault(faults.WRONG_ANSWER, f"{host_of(url)} does not answer as an S3 store: is it one?")
    return root
