"""A plug-in of the real vLLM that makes it odd on demand: slow steps, a blocked event loop, slow grammars.

vLLM loads it in each of its processes by the entry point in the folder beside this file, if this file's folder is on
PYTHONPATH. What is odd is told by files in the folder that ODD_ENGINE names (/tmp/odd-engine), each a JSON object:

    step      {"seconds": 8, ...}: a step of the engine takes so long; "longer_than": N: only one that begins a
              prompt of more than N tokens; "compiler": "ptxas": a program of that name runs as the worker's child
              meanwhile, and vLLM's log tells of a compilation
    pace      {"seconds": 0.03}: each step takes so much longer
    idle      {"seconds": 6, "after": 3, ...}: the first step after so many seconds without one takes so long
    grammar   {"seconds": 3, ...}: a grammar takes so long to compile
    block     {"seconds": 8, ...}: the server's event loop stands still so long when a request is taken

All take "computes": true, which uses half of a core meanwhile (otherwise it sleeps), and "once": true, which
takes the file away before the first one. Such things happen with models, processors and inputs that no test has.

Where ODD_ENGINE_SPINS is "no", a worker or a core that has got a message from the other looks for the next one 500
times a second. By itself vLLM does so all the time for a second: under any load that takes a core for each worker.

Where VLLM_WORKER_MULTIPROC_METHOD, a variable of vLLM's own, is "fork", the core and the workers are forked, as by
default on GPUs. On CPU vLLM overwrites it by "spawn": each process imports all anew. Forked, the tiny model starts with
9.6 s of processor instead of 15.7, and its engine has 1.0 GB of memory instead of 1.65 (0.32.0).
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(os.environ.get("ODD_ENGINE", "/tmp/odd-engine"))  # noqa: S108 - of the engine's own container
BURST_SECONDS, SHARE = 0.02, 0.5
"""What computes does so in bursts, for that share of the time: enough for whoever asks the kernel whether it computes,
and other tests go on."""

LOOK_SECONDS = 0.002
START_METHOD = "VLLM_WORKER_MULTIPROC_METHOD"

_last_step = time.monotonic()


def register() -> None:
    """Called by vLLM in each process; which of these classes are used there is its own matter."""
    from vllm.v1.engine.input_processor import (  # type: ignore[import-not-found] # noqa: PLC0415 # only in the engine
        InputProcessor,
    )
    from vllm.v1.structured_output import (  # type: ignore[import-not-found] # noqa: PLC0415 # as above
        StructuredOutputManager,
    )
    from vllm.v1.worker.worker_base import (  # type: ignore[import-not-found] # noqa: PLC0415 # as above
        WorkerWrapperBase,
    )

    _before(WorkerWrapperBase, "execute_model", before_step)
    _before(StructuredOutputManager, "_create_grammar", lambda *_, **__: spend(told("grammar")))
    _before(InputProcessor, "process_inputs", lambda *_, **__: spend(told("block")))
    if os.environ.get("ODD_ENGINE_SPINS") == "no":
        sleep_between_looks()
    if os.environ.get(START_METHOD) == "fork":
        keep_forking()


def keep_forking() -> None:
    """Have the platform for CPU leave the variable as it is."""
    from vllm.platforms.cpu import CpuPlatform  # type: ignore[import-not-found] # noqa: PLC0415 # as above

    whole = CpuPlatform.check_and_update_config

    def both(_: type, config: Any) -> None:
        whole(config)
        os.environ[START_METHOD] = "fork"

    CpuPlatform.check_and_update_config = classmethod(both)


def sleep_between_looks() -> None:
    """Have who waits for a message sleep between two looks, where it only lets others go first."""
    from vllm.distributed.device_communicators import (  # type: ignore[import-not-found] # noqa: PLC0415 # as above
        shm_broadcast,
    )

    shm_broadcast.sched_yield = lambda: time.sleep(LOOK_SECONDS)


def _before(owner: type, name: str, act: Callable[..., None]) -> None:
    whole = getattr(owner, name)

    @functools.wraps(whole)
    def both(self: Any, *args: Any, **kwargs: Any) -> Any:
        act(*args, **kwargs)
        return whole(self, *args, **kwargs)

    setattr(owner, name, both)


def before_step(scheduled: Any) -> None:
    """Make a step long, if it has something to compute."""
    global _last_step  # noqa: PLW0603 - a process has one worker, whose class is not ours
    if not scheduled.total_num_scheduled_tokens:
        return
    longest = max((len(new.prompt_token_ids or ()) for new in scheduled.scheduled_new_reqs), default=0)
    idle = time.monotonic() - _last_step
    spend(told("pace"))
    spend(told("step", lambda wanted: longest > wanted.get("longer_than", -1)))
    spend(told("idle", lambda wanted: idle >= wanted["after"]))
    _last_step = time.monotonic()


def told(name: str, applies: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any] | None:
    """What a file wants now; None where there is none, it does not apply, or another process has taken it."""
    path = FOLDER / name
    try:
        wanted: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not applies(wanted):
            return None
        if wanted.get("once"):
            path.unlink()
    except FileNotFoundError:
        return None
    return wanted


def spend(wanted: dict[str, Any] | None) -> None:
    """Take the time."""
    if wanted is None:
        return
    if wanted.get("compiler"):
        compile_kernel(wanted["compiler"], wanted["seconds"])
        return
    if wanted.get("computes"):
        compute(wanted["seconds"])
    else:
        time.sleep(wanted["seconds"])


def compute(seconds: float) -> None:
    """Use half of a core; where others leave less for a while, more of it later."""
    began, used = time.monotonic(), time.thread_time()
    while (now := time.monotonic()) < began + seconds:
        if (ahead := (time.thread_time() - used) / SHARE - (now - began)) > 0:
            time.sleep(ahead)
        enough = time.thread_time() + BURST_SECONDS
        while time.thread_time() < enough:
            pass


def compile_kernel(name: str, seconds: float) -> None:
    """Run a program of that name, and have vLLM tell of the compilation in its own words."""
    from vllm.utils import jit_monitor  # type: ignore[import-not-found] # noqa: PLC0415 # only in the engine

    kernel = f"kernel_{time.monotonic_ns()}"
    jit_monitor._handle_jit_event(backend="Triton", event="kernel JIT compilation", fn_name=kernel)  # noqa: SLF001 - no other way
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / name
        program.symlink_to(sys.executable)
        subprocess.run([str(program), "-S", "-E", __file__, str(seconds)], check=True)


if __name__ == "__main__":  # the compiler
    compute(float(sys.argv[1]))
