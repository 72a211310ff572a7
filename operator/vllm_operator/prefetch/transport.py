"""HTTP: one request, its answer as a stream, and a fault in words where there is none."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

from . import faults
from .faults import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from email.message import Message
    from typing import IO

AGENT = "vllm-operator-prefetch"

TIMEOUT_SECONDS = 60.0
"""Without a byte; a connection that is slow and goes on is none of that."""

MOST_RETRY_SECONDS = 3600.0
MOST_BYTES = 64 * 1024 * 1024
"""Of an answer that is read whole: the list of the largest repository is 3 MB."""

OK, PARTIAL, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, GONE = 200, 206, 401, 403, 404, 410
PRECONDITION_FAILED, RANGE_NOT_SATISFIABLE, TOO_MANY, UNAVAILABLE, SERVER_ERROR = 412, 416, 429, 503, 500

_RATE_LIMIT = re.compile(r"\bt=(\d+)")
"""Seconds until the hub's window ends: `RateLimit: "resolvers";r=0;t=55` (draft-ietf-httpapi-ratelimit-headers)."""

CUT_OFF = (OSError, http.client.HTTPException)
"""What a connection that breaks raises; urllib's own errors are among them."""


class Refused(Exception):  # noqa: N818 # an answer, which its source explains
    """Whoever was asked answered, and not with what was asked for."""

    def __init__(self, url: str, status: int, headers: Mapping[str, str], body: str) -> None:
        super().__init__(f"HTTP {status} from {host_of(url)}")
        self.url = url
        """Of who refused: the last one of a chain of redirects."""
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def retry_after_seconds(self) -> float:
        """How long to wait, as the answer says; 0 where it does not."""
        given = self.headers.get("Retry-After", "")
        limit = _RATE_LIMIT.search(self.headers.get("RateLimit", ""))
        seconds = _seconds(given) if given else float(limit[1]) if limit else 0.0
        return min(max(seconds, 0.0), MOST_RETRY_SECONDS)

    def fault(self) -> Fault:
        """The fault that this is where the kind of the source adds nothing."""
        host = host_of(self.url)
        if self.status in (TOO_MANY, UNAVAILABLE):
            what = "limits the rate of requests" if self.status == TOO_MANY else "cannot answer now"
            return Fault(faults.RATE_LIMITED, f"{host} {what} (HTTP {self.status})", self.retry_after_seconds)
        if self.status >= SERVER_ERROR:
            return Fault(faults.UNREACHABLE, f"{host} fails (HTTP {self.status})")
        if self.status in (UNAUTHORIZED, FORBIDDEN):
            return Fault(faults.UNAUTHORIZED, f"{host} refuses {path_of(self.url)} (HTTP {self.status})")
        if self.status in (NOT_FOUND, GONE):
            return Fault(faults.NOT_FOUND, f"{host} has no {path_of(self.url)} (HTTP {self.status})")
        if self.status == PRECONDITION_FAILED:
            return Fault(faults.CHANGED, f"{path_of(self.url)} has changed since it was listed")
        return Fault(faults.WRONG_ANSWER, f"{host} answers HTTP {self.status} for {path_of(self.url)}")


class Transport:
    """Asks by HTTP, through the proxies of the environment."""

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout_seconds = timeout_seconds
        context = ssl.create_default_context()
        with contextlib.suppress(ImportError, OSError):  # some images have the authorities in this package alone
            import certifi  # noqa: PLC0415

            context.load_verify_locations(certifi.where())
        self._opener = urllib.request.build_opener(_Redirects(), urllib.request.HTTPSHandler(context=context))

    @contextlib.contextmanager
    def open(self, url: str, headers: Mapping[str, str], method: str = "GET") -> Iterator[http.client.HTTPResponse]:
        """The answer to a request, as a stream.

        Raises:
            Refused: it is an error.
            Fault: nobody answers.
        """
        sent = {"Accept-Encoding": "identity", "User-Agent": AGENT, **headers}
        request = urllib.request.Request(url, headers=sent, method=method)  # noqa: S310 # the schemes are checked before
        try:
            response = self._opener.open(request, timeout=self._timeout_seconds)
        except urllib.error.HTTPError as error:
            with error:
                body = error.read(MOST_BYTES).decode("utf-8", "replace")
            raise Refused(error.geturl() or url, error.code, dict(_titled(error.headers)), body) from error
        except CUT_OFF as error:
            raise Fault(faults.UNREACHABLE, f"cannot reach {host_of(url)}: {told(error)}") from error
        with response:
            yield response

    def size(self, url: str, headers: Mapping[str, str]) -> int | None:
        """The size of what is there, in bytes; None where the answer to a HEAD does not say it.

        Raises:
            Refused: the answer is an error.
            Fault: nobody answers.
        """
        with self.open(url, headers, "HEAD") as response:
            length = response.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None

    def read(self, url: str, headers: Mapping[str, str]) -> bytes:
        """A whole answer.

        Raises:
            Refused: it is an error.
            Fault: nobody answers, or not to the end.
        """
        with self.open(url, headers) as response:
            try:
                content = response.read(MOST_BYTES)
            except CUT_OFF as error:
                raise Fault(faults.UNREACHABLE, f"{host_of(url)} breaks off: {told(error)}") from error
            announced = response.headers.get("Content-Length")
            if announced is not None and announced.isdigit() and len(content) < min(int(announced), MOST_BYTES):
                raise Fault(faults.UNREACHABLE, f"{host_of(url)} breaks off in the middle of {path_of(url)}")
            return content


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; to another host no credentials go along: the hub hands files over to its storage."""

    def redirect_request(  # noqa: PLR0917 # the signature is that of urllib
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """The request that follows, or None."""
        found = super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)  # type: ignore[arg-type] # noqa: PLR2004 # typeshed has another class; 308 is unknown before Python 3.11
        if found is not None and host_of(newurl) != host_of(req.full_url):
            for name in [name for name in found.headers if name.lower() in ("authorization", "cookie")]:
                del found.headers[name]
        return found

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302


def host_of(url: str) -> str:
    """Scheme, host and port, for messages and to compare."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"


def path_of(url: str) -> str:
    """Path, without what may be secret behind it."""
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path)


def told(error: BaseException) -> str:
    """What broke, in words."""
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, TimeoutError) or "timed out" in str(reason):
        return f"nothing came for {TIMEOUT_SECONDS:g} s"
    return str(reason) or type(reason).__name__


def _titled(headers: Message) -> Iterator[tuple[str, str]]:
    """Headers under the names by which they are asked for here, however they were written."""
    known = {name.lower(): name for name in ("Retry-After", "RateLimit", "X-Error-Code", "X-Error-Message")}
    for name, text in headers.items():
        yield known.get(name.lower(), name), str(text)


def _seconds(text: str) -> float:
    """Retry-After: a number, or a date."""
    if text.strip().isdigit():
        return float(text)
    when = email.utils.parsedate_tz(text)
    return email.utils.mktime_tz(when) - time.time() if when else 0.0
