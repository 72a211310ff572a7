"""Tells how far the download is: GET /status, for the operator and for people."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .progress import Progress


def serve(progress: Progress, port: int) -> ThreadingHTTPServer:
    """Answer on a port, beside whatever else is done; of IPv6 too where there is any."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/status"
            content = (json.dumps(progress.document()) if found else "there is /status").encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json" if found else "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing: the log is for what is done."""

    server = _server(Handler, port)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="answers", daemon=True).start()
    return server


def _server(handler: type[BaseHTTPRequestHandler], port: int) -> ThreadingHTTPServer:
    import socket  # noqa: PLC0415 # its constant is needed here alone

    class Dual(ThreadingHTTPServer):
        address_family = socket.AF_INET6

        def server_bind(self) -> None:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    try:
        return Dual(("::", port), handler)
    except OSError:
        return ThreadingHTTPServer(("0.0.0.0", port), handler)  # noqa: S104 # it is the pod's own address
