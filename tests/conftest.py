"""Fixtures that every test may ask for."""

import os
import signal
import sys

import pytest

from tests.cluster.fixtures import api_server, cluster, cluster_images
from tests.support.load_average import Patience

__all__ = ["api_server", "cluster", "cluster_images"]

PATIENCE = pytest.StashKey[Patience]()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell's background job ignores it, and would hand that on to the engines, which are to be interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Let a failed test's line of the summary say why also in a log, where it is cut to 80 characters."""
    if not sys.stdout.isatty():
        terminalreporter.config.get_terminal_writer().fullwidth = 300  # COLUMNS would reach programs under test too


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let several runs share a machine that may be slower than usual."""
    parser.addoption(
        "--max-load",
        type=float,
        help="begin a test only while the load average is below this per processor; all waits last ten minutes at most",
    )


class Reasons:
    """Says at once why a test failed: a run that is ended from outside never comes to its tracebacks."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter

    @pytest.hookimpl(trylast=True)  # after the line that names the test
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write what the error says, cut to some lines."""
        crash = getattr(report.longrepr, "reprcrash", None)
        if report.failed and crash is not None:
            self._reporter.write_line(" ".join(crash.message.split())[:300])


@pytest.hookimpl(trylast=True)  # once there is a reporter
def pytest_configure(config: pytest.Config) -> None:
    """Say why tests failed where -v names each."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.verbosity > 0:
        config.pluginmanager.register(Reasons(reporter))


@pytest.hookimpl(tryfirst=True)  # before the fixtures, which start the clusters
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Wait for --max-load, and take SIGTERM, by which make ends a run, as a Ctrl-C: fixtures end what they started.

    The signal is set before each test: an event loop that has handled it itself leaves it to the system afterwards.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    max_load = item.config.getoption("--max-load")
    if max_load is not None:
        item.config.stash.setdefault(PATIENCE, Patience(max_load * (os.cpu_count() or 1))).wait()
