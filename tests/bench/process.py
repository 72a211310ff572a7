"""The operator's process, and what it costs: by its own metrics, and by /proc as a second witness."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.bench.errors import BenchError
from tests.bench.machine import cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0
_MIB: Final = 2**20
_HISTOGRAM: Final = "vllm_operator_reconcile_seconds_bucket"
_REQUESTS: Final = "vllm_operator_api_requests_total"


@dataclass(frozen=True, slots=True)
class Reading:
    """The operator's metrics at one moment."""

    cpu_seconds: float
    proc_cpu_seconds: float
    """The same by /proc, read from outside."""
    rss_mib: float
    peak_rss_mib: float
    reconciles: Mapping[float, float]
    """Looks at a model, by upper bound of their bucket in seconds; cumulative, as Prometheus has it."""
    failures: float
    requests: Mapping[str, float]
    """Requests to the API server so far, by verb and code, such as `patch 200`."""


class OperatorProcess:
    """`vllm-operator` as its own process, configured by environment like anywhere else."""

    def __init__(self, kubeconfig: Path, log: Path, *, workers: int, source: Path | None = None) -> None:
        self._port = _free_port()
        self._log = log
        environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "VLLM_OPERATOR_LISTEN_HOST": "127.0.0.1",
            "VLLM_OPERATOR_LISTEN_PORT": str(self._port),
            "VLLM_OPERATOR_WORKERS": str(workers),
            "VLLM_OPERATOR_NAMESPACE": "default",  # every cluster has it: the Lease lies there
        }
        if source is not None:
            environment["PYTHONPATH"] = str(source.resolve())
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("vllm-operator"))],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def wait_ready(self) -> float:
        """Wait until it follows the cluster; returns how long that took.

        Raises:
            BenchError: it ended, or took too long.
        """
        started = time.monotonic()
        async with aiohttp.ClientSession() as session:
            while time.monotonic() - started < START_SECONDS:
                if self._process.poll() is not None:
                    raise BenchError(f"the operator ended with code {self._process.returncode}; see {self._log}")
                try:
                    async with session.get(self._url("readyz")) as answer:
                        if answer.ok:
                            return time.monotonic() - started
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)
        raise BenchError(f"the operator is not ready after {START_SECONDS:.0f} s; see {self._log}")

    async def read(self) -> Reading:
        """Read its metrics.

        Raises:
            BenchError: it does not answer.
        """
        proc_cpu = cpu_seconds(self.pid)
        try:
            async with aiohttp.ClientSession() as session, session.get(self._url("metrics")) as answer:
                text = await answer.text()
        except aiohttp.ClientError as error:
            raise BenchError(f"the operator does not answer: {error!r}; see {self._log}") from error
        return _reading(text, proc_cpu, self._peak_rss())

    async def stop(self) -> float:
        """End it by SIGTERM; returns how long that took.

        Raises:
            BenchError: it did not end by itself, or not well; it is gone all the same.
        """
        started = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        while self._process.poll() is None:
            if time.monotonic() - started > STOP_SECONDS:
                self.kill()
                raise BenchError(f"the operator did not end within {STOP_SECONDS:.0f} s of SIGTERM; see {self._log}")
            await asyncio.sleep(0.02)
        if self._process.returncode != 0:
            raise BenchError(f"the operator ended with code {self._process.returncode}; see {self._log}")
        return time.monotonic() - started

    def kill(self) -> None:
        """End it at once, whatever its state."""
        self._process.kill()
        self._process.wait()

    def _url(self, page: str) -> str:
        return f"http://127.0.0.1:{self._port}/{page}"

    def _peak_rss(self) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        kibibytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        return kibibytes / 1024


def _reading(text: str, proc_cpu: float, peak_rss_mib: float) -> Reading:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    single = {sample.name: sample.value for sample in samples if not sample.labels}
    return Reading(
        cpu_seconds=single["process_cpu_seconds_total"],
        proc_cpu_seconds=proc_cpu,
        rss_mib=single["process_resident_memory_bytes"] / _MIB,
        peak_rss_mib=peak_rss_mib,
        reconciles={float(sample.labels["le"]): sample.value for sample in samples if sample.name == _HISTOGRAM},
        failures=single["vllm_operator_reconcile_failures_total"],
        requests={
            f"{sample.labels['verb']} {sample.labels['code']}": sample.value
            for sample in samples
            if sample.name == _REQUESTS
        },
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
