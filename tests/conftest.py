"""Fixtures that every test may ask for."""

import signal

from tests.cluster.fixtures import api_server, cluster, cluster_images

__all__ = ["api_server", "cluster", "cluster_images"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell's background job ignores it, and would hand that on to the engines, which are to be interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)
# What ends a run that is no longer wanted, such as make; as a Ctrl-C it lets the fixtures end what they have started.
signal.signal(signal.SIGTERM, signal.default_int_handler)
