"""Fixtures that every test may ask for."""

import signal
import sys

import pytest

from tests.cluster.fixtures import api_server, cluster, cluster_images

__all__ = ["api_server", "cluster", "cluster_images"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell's background job ignores it, and would hand that on to the engines, which are to be interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Let a failed test's line of the summary say why also in a log, where it is cut to 80 characters."""
    if not sys.stdout.isatty():
        terminalreporter.config.get_terminal_writer().fullwidth = 300  # COLUMNS would reach programs under test too


def pytest_runtest_setup() -> None:
    """Take SIGTERM, by which make ends a run, as a Ctrl-C, so that fixtures end what they have started.

    Before each test, since an event loop that has handled the signal itself leaves it to the system afterwards.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
