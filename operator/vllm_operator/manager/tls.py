"""TLS as the gate speaks it with the server in its own pod. Loaded only where the server speaks it: it takes 4 MB."""

from __future__ import annotations

import ssl

from .exchange import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket


class Tls:
    """How connections to the server speak TLS.

    Its certificate is not verified: it names the model's Service and not this pod, and whoever could answer on the
    pod's own port in its place is in the pod already. Clients verify it.
    """

    QUIET = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
    """Nothing has come on a connection that does not wait."""

    CLOSED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
    """The server has closed the connection."""

    ERROR = ssl.SSLError
    """What goes wrong with TLS itself; its errno is a number of the library's, and none of the system's."""

    def __init__(self) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def over(self, connection: socket.socket, port: int) -> socket.socket:
        """TLS over a connection, whose own deadline holds for the handshake too. One that fails is closed.

        Raises:
            EngineError: Failing: what listens there does not speak TLS.
            OSError: the connection broke, or time is over (socket.timeout).
        """
        try:
            return self._context.wrap_socket(connection)
        except self.ERROR as error:
            connection.close()
            raise EngineError("Failing", f"port {port} does not speak TLS: {error.reason or error}") from None
        except BaseException:
            connection.close()
            raise
