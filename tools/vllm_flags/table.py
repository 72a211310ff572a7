"""What all releases have, as one table: a line for each argument, which says what changed with which release."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tools.vllm_flags import fetch, parser_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Facts = dict[str, dict[str, Any]]
"""What each argument of one release is, by its full name."""

FILE: Final = Path(__file__).parent.parent.parent / "operator" / "vllm_operator" / "api" / "vllm_arguments.json"

_CPU_WORKER: Final = Path("vllm/v1/worker/cpu_worker.py")

RENAMED: Final = {
    "--disable-log-requests": "--enable-log-requests",
    "--guided-decoding-backend": "--structured-outputs-config",
    "--override-pooler-config": "--pooler-config",
    "--rope-scaling": "--hf-overrides",
    "--rope-theta": "--hf-overrides",
    "--speculative-model": "--speculative-config",
    "--task": "--runner",
}
"""What an argument that is gone has become. No parser says it: vLLM's own words of deprecation do, before it goes.
A test holds that the new one was there when the old one went."""


class ReadingError(Exception):
    """The parser of a release could not be made."""


def read(release: str) -> Facts:
    """What the arguments of a release are, which is fetched where it is not in the cache, and read once.

    Raises:
        ReadingError: its code does not run, or its parser is made of something that `parser_program` has not got.
        FetchError: the index does not give it.
    """
    folder, program = fetch.sources(release), Path(parser_program.__file__)
    kept = folder / f"arguments-{hashlib.sha256(program.read_bytes()).hexdigest()[:16]}.json"
    if not kept.exists():
        words = [sys.executable, "-I", str(program), str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ReadingError(f"vLLM {release}: {done.stderr.strip().splitlines()[-1]}")
        scratch = kept.with_suffix(f".{os.getpid()}")
        scratch.write_text(done.stdout, encoding="utf-8")
        scratch.rename(kept)
    facts: Facts = json.loads(kept.read_text(encoding="utf-8"))
    return facts


def reads_kv_cache_memory_on_cpu(release: str) -> bool:
    """Whether the engine on CPU heeds --kv-cache-memory-bytes; else only VLLM_CPU_KVCACHE_SPACE."""
    return "kv_cache_memory_bytes" in _cpu_worker(release)


def leaves_threads_unbound_on_cpu(release: str) -> bool:
    """Whether VLLM_CPU_OMP_THREADS_BIND may be nobind; asked until one may, since others bind elsewhere afterwards."""
    return '"nobind"' in _cpu_worker(release)


def _cpu_worker(release: str) -> str:
    """The source of the worker on CPU; empty where a release has none."""
    place = fetch.sources(release) / _CPU_WORKER
    return place.read_text(encoding="utf-8") if place.is_file() else ""


def written(releases: Mapping[str, Facts], cpu_memory_since: str, cpu_threads_unbound_since: str) -> str:
    """The table of these releases, the oldest first, as the text of its file."""
    names = sorted({name for facts in releases.values() for name in facts})
    lines = [f"    {json.dumps(name)}: {json.dumps(_changes(name, releases))}" for name in names]
    head = {
        "releases": list(releases),
        "kvCacheMemoryOnCpuSince": cpu_memory_since,
        "threadsUnboundOnCpuSince": cpu_threads_unbound_since,
    }
    opened = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
    body = ",\n".join(lines)
    return f'{{\n{opened}  "arguments": {{\n{body}\n  }}\n}}\n'


def _changes(name: str, releases: Mapping[str, Facts]) -> list[dict[str, Any]]:
    """What an argument is from each release on in which it changed: what is null has gone."""
    found: list[dict[str, Any]] = []
    before: dict[str, Any] | None = None
    for release, facts in releases.items():
        now = facts.get(name)
        if now == before:
            continue
        if now is None:
            renamed = {"renamed": RENAMED[name]} if name in RENAMED else {}
            found.append({"since": release, "gone": True, **renamed})
        else:
            old = before or {}
            left = {key: None for key in old if key not in now}
            found.append({"since": release, **{key: now[key] for key in now if now[key] != old.get(key)}, **left})
        before = now
    return found


def missing(newest: Facts, known: Iterable[str]) -> list[str]:
    """Arguments of a release that are not among those that are known."""
    return sorted(set(newest) - set(known))
