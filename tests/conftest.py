"""Fixtures that every test may ask for."""

import signal

from tests.cluster.fixtures import api_server, cluster, cluster_images

__all__ = ["api_server", "cluster", "cluster_images"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell's background job ignores it, and would hand that on to the engines, which are to be interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup() -> None:
    """Take SIGTERM, by which make ends a run, as a Ctrl-C, so that fixtures end what they have started.

    Before each test, since an event loop that has handled the signal itself leaves it to the system afterwards.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
