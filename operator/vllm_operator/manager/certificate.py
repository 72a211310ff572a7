"""The certificate with which the server speaks https: checked before the engine loads, and renewed while it runs.

The engine does not read the Secret's own files. vLLM (`--enable-ssl-refresh`, seen with 0.32 and watchfiles 1.3)
watches the files behind the links that kubelet makes, and sees the first renewal alone: kubelet makes new files each
time. So it is given copies, into which a renewed certificate is written, and which stay the files that it watches.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

STATE_FOLDER = "/run/vllm-manager"
FOLDER = "certificate"
"""Where the copies lie, below the folder of the manager's state: in memory, and for the engine's user alone."""

CERTIFICATE, KEY = "tls.crt", "tls.key"
"""Names of the files, as in every Secret of type kubernetes.io/tls."""

LARGEST = 1 << 20
"""Bytes of a file that are read at most: a Secret holds no more."""


class CertificateError(Exception):
    """The certificate cannot be used; says why and what to do."""


class Copies:
    """The copies of one certificate and its key."""

    def __init__(self, source: str, environment: Mapping[str, str]) -> None:
        """Copies that may not be there yet.

        Args:
            source: Folder with the Secret's files.
            environment: GATE_STATE in it names another folder for the manager's state: for tests.
        """
        self._source = source
        self._folder = os.path.join(environment.get("GATE_STATE", STATE_FOLDER), FOLDER)
        self._copied: list[bytes] = []
        """What the copies hold, as far as this process knows."""

    def make(self) -> None:
        """Make the copies, for an engine that is about to start.

        Raises:
            CertificateError: there is no such certificate, or no server could use it.
        """
        try:
            found = self._read(self._source)
            self._check()
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._write(found)
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error

    def renew(self) -> bool:
        """Write a certificate that has changed since into the copies; whether it has.

        Raises:
            CertificateError: the new one cannot be used. The server goes on with the one that it has.
        """
        try:
            found = self._read(self._source)
            self._copied = self._copied or self._read(self._folder)
            if found == self._copied:
                return False
            self._check()
            self._write(found)
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error
        return True

    def _read(self, folder: str) -> list[bytes]:
        contents = []
        for name in (CERTIFICATE, KEY):
            with open(os.path.join(folder, name), "rb") as file:
                contents.append(file.read(LARGEST))
        return contents

    def _check(self) -> None:
        """Have the library load them, as a server does.

        Raises:
            OSError: it cannot; ssl.SSLError is one.
        """
        import ssl  # noqa: PLC0415 # only managers of servers with TLS need its memory

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate, key = (os.path.join(self._source, name) for name in (CERTIFICATE, KEY))
        context.load_cert_chain(certificate, key, password=lambda: "")  # nobody is there to be asked for one

    def _write(self, contents: list[bytes]) -> None:
        """Write into the files that are there: the server watches these, and not their names."""
        for name, content in zip((CERTIFICATE, KEY), contents):  # noqa: B905 # strict= is new in 3.10
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
            with os.fdopen(os.open(os.path.join(self._folder, name), flags, 0o600), "wb") as file:
                file.write(content)
                file.truncate()
        self._copied = contents

    def _unusable(self, error: Exception) -> CertificateError:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        place = getattr(error, "filename", None)
        return CertificateError(
            f"the certificate of spec.engine.tls cannot be used: {f'{place}: ' if place else ''}{reason}: the Secret "
            f"has to hold {CERTIFICATE} and the {KEY} that belongs to it, both as PEM and without a password"
        )
