"""How long what the policies find is borne: windows that follow what the engine has shown of itself. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .memory import Finding, Memory
    from .settings import Settings

RECENT_SECONDS = 60.0
"""Who computed so recently is not called frozen: compilation pauses while it reads and writes."""

MARGIN_SECONDS = 20.0
"""Between vLLM's own limit for a step, when it ends by itself, and ours."""

WRITING_LIMIT_SECONDS = 3600.0
"""A profiler writes for ten minutes and more."""

STEP_MEMORY_SECONDS = 3600.0
"""So long the length of a step is remembered."""


def longest_step(memory: Memory) -> float | None:
    """Seconds of the longest step of the last hour; None: none was seen yet."""
    now = memory.looked_at or 0.0
    known = [one.seconds for one in memory.long_steps if now - one.begun_at <= STEP_MEMORY_SECONDS]
    return max(known) if known else None


def stall_window(memory: Memory, settings: Settings) -> float:
    """Seconds without a step after which this engine is suspected: its steps may get twice as long as they were."""
    wanted = 2 * (longest_step(memory) or 0.0) + 1.0
    return min(max(wanted, settings.stall_window), max(settings.longest_stall_window, settings.stall_window))


def longest_window(settings: Settings) -> float:
    """Seconds that a suspicion is borne at most."""
    return max(settings.longest_stall_window, settings.stall_window)


def patient_window(memory: Memory, finding: Finding, settings: Settings) -> float:
    """The stall window, or the longest one where kernels were compiled since about when the engine stopped."""
    compiled = memory.compiled_at is not None and memory.compiled_at >= finding.span.since - RECENT_SECONDS
    return longest_window(settings) if compiled else stall_window(memory, settings)


def recent(memory: Memory, moment: float | None) -> bool:
    """Whether it was seen within the last minute."""
    return moment is not None and memory.looked_at is not None and memory.looked_at - moment <= RECENT_SECONDS


def restart_of_the_stalled(memory: Memory, settings: Settings, *, computed_at: float | None) -> float | None:
    """Seconds after which an engine that makes no step is restarted: by what its processes do meanwhile."""
    if settings.restart_window is None:
        return None
    limit = max(settings.restart_window, settings.step_limit) + MARGIN_SECONDS
    if recent(memory, memory.wrote_at):
        return max(limit, WRITING_LIMIT_SECONDS)
    if recent(memory, computed_at) or recent(memory, memory.compiled_at):
        return limit
    return settings.restart_window


def frozen_for(memory: Memory) -> float:
    """Seconds for which cores and workers have used no CPU."""
    if memory.still_since is None or memory.looked_at is None:
        return 0.0
    return memory.looked_at - memory.still_since


def capped(seconds: float, settings: Settings) -> float | None:
    """Seconds, or the restart window where that is shorter; None: never."""
    return None if settings.restart_window is None else min(seconds, settings.restart_window)
