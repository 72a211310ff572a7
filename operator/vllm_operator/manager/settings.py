"""What the operator tells the manager of one engine, as words of the stem's command line before `--`. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CANARY_INTERVAL_SECONDS = 2.0
"""How long an engine without work is believed."""

STALL_WINDOW_SECONDS = 6.0
"""Without a step for so long, an engine whose steps are short loses its traffic."""

LONGEST_STALL_WINDOW_SECONDS = 60.0
"""So far the stall window follows the longest step that the engine has made."""

RESTART_WINDOW_SECONDS = 180.0
"""Without a step for so long, an engine is restarted, if it is not seen to compute."""

STEP_LIMIT_SECONDS = 300.0
"""What vLLM itself gives a step (VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS); one that computes is not restarted before."""

STARTUP_BUDGET_SECONDS = 3600.0
LEAVE_SECONDS = 5.0
"""Between the request to end and the engine's SIGTERM: the pod leaves the endpoints meanwhile."""

NEVER = "never"

POLLED_PATHS = ("/health", "/is_paused", "/metrics", "/metrics/")
"""What the manager asks the server again and again: paths that its access log should leave out. Each is matched whole,
and the manager reads /metrics/, with the slash, where the server can select metrics by their names."""


@dataclass(frozen=True)
class Settings:
    """One engine's settings. Times in seconds; None means never."""

    gate_port: int
    engine_port: int = 8000
    model: str = ""
    """The served name."""
    canary: str = "auto"
    """`auto` (completions, or chat where there is no completions endpoint, or what else the server serves),
    `completions`, `chat`, `pooling`, `embeddings`, `classify`, `transcription`, `realtime`, or `command`."""
    command: tuple[str, ...] = ()
    """The user's own canary, where `canary` is `command`: exit code 0 passes."""
    adapters: tuple[tuple[str, str], ...] = ()
    """Name and path of each LoRA adapter that is to be served beside the model; an empty path: not known."""
    adapters_file: str = ""
    """A list of adapters that changes while the engine runs (adapters.py); empty: there is none."""
    service: str = ""
    """DNS name of the headless Service with the model's ready engines; empty: this engine is the only one."""
    nodes: int = 1
    """Pods of the engine."""
    worker: int = 0
    """This pod's number in it; 0 is the leader, which serves."""
    leader: str = ""
    """DNS name of the leader."""
    certificate: str = ""
    """Folder with the certificate with which the server speaks https; empty: it speaks http."""
    canary_interval: float | None = CANARY_INTERVAL_SECONDS
    stall_window: float = STALL_WINDOW_SECONDS
    longest_stall_window: float = LONGEST_STALL_WINDOW_SECONDS
    restart_window: float | None = RESTART_WINDOW_SECONDS
    step_limit: float = STEP_LIMIT_SECONDS
    startup_budget: float = STARTUP_BUDGET_SECONDS


def settings_of(words: Sequence[str], environment: dict[str, str]) -> Settings:
    """Read the words. Those that are not known are ignored, and those that are missing have their default.

    So a manager of any age runs with a judge of the day.

        --gate-port NUMBER --engine-port NUMBER --model NAME [--canary KIND] [--command JSON-LIST]
        [--adapters JSON-OBJECT] [--adapters-file PATH] [--service DNS-NAME] [--canary-interval SECONDS|never]
        [--stall-window SECONDS] [--longest-stall-window SECONDS] [--restart-window SECONDS|never]
        [--startup-budget SECONDS] [--leave SECONDS] [--keys VARIABLE,VARIABLE] [--certificate FOLDER]
        [--nodes NUMBER] [--drain SECONDS]

    What the controller of a LeaderWorkerSet says of the pod stands in the environment.

    Raises:
        KeyError: the port is missing.
        ValueError: a number is none.
    """
    given = dict(zip((word.lstrip("-") for word in words[::2]), words[1::2]))  # noqa: B905 # strict= is new in 3.10
    adapters = json.loads(given.get("adapters", "{}"))
    nodes = int(given.get("nodes", 1))
    worker = int(environment.get("LWS_WORKER_INDEX") or 0) if nodes > 1 else 0
    return Settings(
        gate_port=int(given["gate-port"]),
        engine_port=int(given.get("engine-port", 8000)),
        model=given.get("model", ""),
        canary=given.get("canary", "auto"),
        command=tuple(json.loads(given.get("command", "[]"))),
        adapters=tuple((str(name), str(path)) for name, path in adapters.items()),
        adapters_file=given.get("adapters-file", ""),
        service=given.get("service", "") if worker == 0 else "",
        nodes=nodes,
        worker=worker,
        leader=environment.get("LWS_LEADER_ADDRESS", ""),
        certificate=given.get("certificate", ""),
        canary_interval=_seconds(given, "canary-interval", CANARY_INTERVAL_SECONDS),
        stall_window=float(given.get("stall-window", STALL_WINDOW_SECONDS)),
        longest_stall_window=float(given.get("longest-stall-window", LONGEST_STALL_WINDOW_SECONDS)),
        restart_window=_seconds(given, "restart-window", RESTART_WINDOW_SECONDS),
        step_limit=float(environment.get("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS") or STEP_LIMIT_SECONDS),
        startup_budget=float(given.get("startup-budget", STARTUP_BUDGET_SECONDS)),
    )


def _seconds(given: dict[str, str], name: str, default: float) -> float | None:
    text = given.get(name)
    if text == NEVER:
        return None
    return default if text is None else float(text)
