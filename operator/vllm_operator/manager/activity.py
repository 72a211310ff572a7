"""Whether the engine's processes compute: what their CPU time says of the last seconds. Pure."""

from __future__ import annotations

from dataclasses import replace

from .memory import CpuSample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .evidence import Look
    from .memory import Memory

COMPUTING_SHARE = 0.2
"""Of one core: what uses more of it computes."""

STILL_SHARE = 0.02
"""Of one core, by process: what uses less of it does nothing. A hung vLLM uses none, an idle worker 0.5 to 1.1 %
(measured on vLLM 0.32.0), and answering a scrape a second uses 0.5 % of the server's."""

AVERAGE_SECONDS = 10.0
"""CPU is averaged over so long."""

STILL_SECONDS = 8.0
"""So much of it has to be covered by samples before anybody is called still."""

SHORTEST_SECONDS = 2.5
"""Below that an average says nothing."""

WRITING_BYTES = 512 * 1024
"""A second: a profiler writes more. The answer to a scrape of the metrics, and a busy server's to its clients, less."""


def sampled(memory: Memory, look: Look) -> Memory:
    """The memory with what the kernel says of the processes, and the log of compilation."""
    told = None if look.log.compiled_at is None else min(look.log.compiled_at, look.ended_at)
    compiled_at = _later(memory.compiled_at, told)
    seen = look.processes
    if seen is None:
        return replace(memory, compiled_at=compiled_at, cpu=(), still_since=None)
    sample = CpuSample(look.at, seen.server_cpu_seconds, seen.core_cpu_seconds, seen.written_bytes)
    kept = [one for one in memory.cpu if look.at - AVERAGE_SECONDS - 1.0 <= one.taken_at < look.at]
    memory = replace(memory, cpu=(*kept, sample))
    core, server, written = core_share(memory), server_share(memory), written_a_second(memory)
    return replace(
        memory,
        compiled_at=_later(compiled_at, look.at if seen.compilers else None),
        computed_at=look.at if core is not None and core >= COMPUTING_SHARE else memory.computed_at,
        server_computed_at=look.at if server is not None and server >= COMPUTING_SHARE else memory.server_computed_at,
        wrote_at=look.at if written is not None and written >= WRITING_BYTES else memory.wrote_at,
        still_since=_still_since(memory, core, seen.core_processes),
    )


def _later(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)


def _still_since(memory: Memory, core: float | None, processes: int) -> float | None:
    if core is not None and core >= STILL_SHARE * processes:
        return None
    covered = memory.cpu[-1].taken_at - memory.cpu[0].taken_at
    if core is None or covered < STILL_SECONDS:
        return memory.still_since  # too few samples since a gap: nothing is known that speaks against it
    return memory.cpu[0].taken_at if memory.still_since is None else memory.still_since


def _ends(memory: Memory, since: float | None) -> tuple[CpuSample, CpuSample] | None:
    """The first and the last sample of a time, where they are far enough apart."""
    within = [one for one in memory.cpu if since is None or one.taken_at >= since]
    if not within or within[-1].taken_at - within[0].taken_at < SHORTEST_SECONDS:
        return None
    return within[0], within[-1]


def core_share(memory: Memory, since: float | None = None) -> float | None:
    """CPU of the engine cores, workers and compilers in the last seconds, in cores; None: not known."""
    ends = _ends(memory, since)
    if ends is None or ends[0].core_seconds is None or ends[1].core_seconds is None:
        return None
    return (ends[1].core_seconds - ends[0].core_seconds) / (ends[1].taken_at - ends[0].taken_at)


def server_share(memory: Memory, since: float | None = None) -> float | None:
    """CPU of the API server's processes in the last seconds, in cores; None: not known."""
    ends = _ends(memory, since)
    if ends is None:
        return None
    return (ends[1].server_seconds - ends[0].server_seconds) / (ends[1].taken_at - ends[0].taken_at)


def written_a_second(memory: Memory) -> float | None:
    """Bytes that all of them have written in the last seconds; None: not known."""
    ends = _ends(memory, None)
    if ends is None:
        return None
    return (ends[1].written_bytes - ends[0].written_bytes) / (ends[1].taken_at - ends[0].taken_at)
