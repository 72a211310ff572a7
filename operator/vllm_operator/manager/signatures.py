"""What vLLM says in its log, as data: how far a start has come, and what wraps a failure.

Wording of vLLM 0.32.0, read in its source. What names the cause of a failure stands in a table of its own, which the
operator writes: see `matching.py`.
"""

from __future__ import annotations

import re

STARTING, DOWNLOADING, LOADING_WEIGHTS, COMPILING = "Starting", "Downloading", "LoadingWeights", "Compiling"
KV_CACHE, CAPTURING_GRAPHS, WARMUP, READY = "KVCache", "CapturingGraphs", "Warmup", "Ready"

PHASES = (STARTING, DOWNLOADING, LOADING_WEIGHTS, COMPILING, KV_CACHE, CAPTURING_GRAPHS, WARMUP, READY)
"""In the order of a start. A start never goes back: of several ranks the one that is farthest counts."""

_BAR = r"\s*\d+%\|[^|]*\|\s*"

PHASE_LINES = tuple(
    (word, re.compile(pattern), phase, detail)
    for word, pattern, phase, detail in (
        (b"Fetching ", rf"Fetching \d+ files:{_BAR}(\d+)/(\d+)", DOWNLOADING, "{0} of {1} files"),
        (
            b"B/s]",
            rf"\.(?:safetensors|bin|pt|gguf):{_BAR}([\d.]+)([kMGT])B?/([\d.]+)([kMGT])B? ",
            DOWNLOADING,
            "{0} {1}B of {2} {3}B",
        ),
        (b"Time spent downloading weights", "Time spent downloading weights for", LOADING_WEIGHTS, ""),
        (b"Starting to load model", "Starting to load model ", LOADING_WEIGHTS, ""),
        (b"Loading model from scratch", "Loading model from scratch", LOADING_WEIGHTS, ""),
        (b"Checkpoint size: ", r"Checkpoint size: (?!0\.00 )([\d.]+) GiB", LOADING_WEIGHTS, "{0} GiB"),
        (
            b"% Completed | ",
            r"oading (?:\w+ )*shards[^|:]*:\s*\d+% Completed \| (\d+)/(\d+)",
            LOADING_WEIGHTS,
            "{0} of {1} shards",
        ),
        (
            b"% Completed | ",
            r"Runai Model Streamer:\s*\d+% Completed \| (\d+)/(\d+)",
            LOADING_WEIGHTS,
            "{0} of {1} tensors",
        ),
        (
            b"% Completed | ",
            r"InstantTensor loader:\s*\d+% Completed \| ([\d.]+)([kMGT])/([\d.]+)([kMGT])",
            LOADING_WEIGHTS,
            "{0} {1}iB of {2} {3}iB",
        ),
        (b"Starting torch.compile", "Starting torch.compile", COMPILING, ""),
        (b"Dynamo bytecode transform time", "Dynamo bytecode transform time", COMPILING, ""),
        (b"Compiling a graph for", "Compiling a graph for compile range", COMPILING, ""),
        (b"Directly load ", "Directly load (?:AOT compilation|the compiled graph)", COMPILING, "from the cache"),
        (b"Warming up model for the compilation", "Warming up model for the compilation", COMPILING, ""),
        (b"Available KV cache memory", r"Available KV cache memory: ([\d.]+) GiB", KV_CACHE, "{0} GiB"),
        (b"KV cache size: ", r"KV cache size: ([\d,]+) tokens", KV_CACHE, "{0} tokens"),
        (
            b"CUDA graphs",
            rf"Capturing [^|:]*CUDA graphs[^|:]*:{_BAR}(\d+)/(\d+)",
            CAPTURING_GRAPHS,
            "{0} of {1} graphs",
        ),
        (b"Graph capturing finished", "Graph capturing finished in", CAPTURING_GRAPHS, ""),
        (b"init engine (profile", r"init engine \(profile, create kv cache, warmup model\) took", WARMUP, ""),
        (b"Application startup complete", r"Application startup complete\.", READY, ""),
    )
)
"""A word that such a line holds, the pattern, the phase that it shows, and what is said of its groups.

While weights are downloaded vLLM 0.32.0 shows no progress and says "Starting to load model" before; progress bars of
downloads come from other loaders, and give decimal units. No percentage is made of any of these."""

COMPILES = (b" during inference: ", b"Triton autotuning for function ")
"""A kernel was compiled while prompts wait for it: of `vllm/utils/jit_monitor.py`, which says so once per kernel, and
of Triton, whose autotuning prints what it has done while that monitor is active."""

BLOCKED = b"No available shared memory broadcast block found"
"""A process waits for others: of `vllm/distributed/device_communicators/shm_broadcast.py`, each 60 s."""

WRAPPERS = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|WorkerProc failed to start|"
    r"EngineCore failed to start|EngineCore encountered (?:an issue|a fatal error)|EngineDeadError|Executor failed|"
    r"AsyncLLM output_handler failed|Worker proc \S+ died unexpectedly|KeyboardInterrupt|SystemExit|"
    r"(?:^|\.)CancelledError|WorkerProc was terminated|WorkerProc hit an exception|"
    r"Dumping (?:input|scheduler)|API server process (?:died|failed)|Process \S+ \(PID: \d+\) died"
)
"""Says that something has failed, and not why: looked for last."""

ENDED_PROCESSES = re.compile(r"Worker proc \S+ died unexpectedly \(exit code: -?\d+\)|Failed core proc\(s\): \{.+\}")
"""Says how one of the engine's processes has ended: a signal shows nowhere else."""
