"""Whose certificates are believed."""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import TYPE_CHECKING

from vllm_client.errors import ConfigurationError
from vllm_client.values import VARIABLES

if TYPE_CHECKING:
    import ssl

logger = logging.getLogger(__name__)


_PLACES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables that name other places for the authorities that this machine believes."""


class Authorities:
    """The authorities whose certificates are believed. Modules for TLS are imported late because that takes a while.

    Args:
        ca_file: Their certificates as PEM; no others are believed. Empty: those that this machine believes.

    Raises:
        ConfigurationError: The file cannot be read, or holds no certificate.
    """

    def __init__(self, ca_file: str) -> None:
        self._ca_file = ca_file
        self._context = self._read()

    def context(self) -> ssl.SSLContext:
        """TLS that believes them.

        The file is read each time, since authorities are replaced; where it cannot be, what was read before stays.
        """
        if self._ca_file:
            try:
                self._context = self._read()
            except ConfigurationError as error:
                logger.warning("the authorities that were read before stay in use: %s", error)
        return self._context

    def _read(self) -> ssl.SSLContext:
        import ssl  # noqa: PLC0415 - see above

        if not self._ca_file:
            return _of_this_machine(*map(os.environ.get, _PLACES))
        try:
            return ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:  # of TLS, too
            variable = VARIABLES["ca_file"]
            raise ConfigurationError(
                f"the certificates in {self._ca_file} cannot be used: {error}",
                variable=variable,
                advice=f"Set {variable} to a PEM file with the certificate of the authority that signed the engine's",
            ) from error


@cache
def _of_this_machine(*_: str | None) -> ssl.SSLContext:
    """TLS for all clients of a process: to read the machine's 140 authorities takes 46 ms and 0.8 MiB."""
    import httpx2  # noqa: PLC0415 - see above

    return httpx2.create_ssl_context()
