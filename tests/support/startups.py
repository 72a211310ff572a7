"""See from outside what `vllm_operator.startup` did in each Python process that a program starts.

with a folder of `recorder(folder)` behind that of the file under test on PYTHONPATH, each process writes one line as it
starts, forked ones too: `starts(folder)` reads them.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.vllm_cpu import START_METHOD, STARTUP

PROGRAM = """
import json, os, sys

def _record():
    import ctypes
    call = ctypes.CDLL(None, use_errno=True).syscall
    allowed = ctypes.c_uint64(0)
    shown = call(ctypes.c_long(158), ctypes.c_long(0x1022), ctypes.byref(allowed)) == 0
    found = {
        "process": os.getpid(),
        "answer": sys.modules["sitecustomize"].AMX,
        "allowed": bool(shown and allowed.value >> 18 & 1),
    }
    with open(os.path.join(os.path.dirname(__file__), "starts"), "a") as file:
        file.write(json.dumps(found) + "\\n")

_record()
os.register_at_fork(after_in_child=_record)
"""
"""A `sitecustomize` that the one under test hides. 158 is arch_prctl, 0x1022 ARCH_GET_XCOMP_PERM, bit 18 means AMX."""


UNASKED = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", START_METHOD: "spawn"}
"""Leaves it to the file under test that each process of an engine may use AMX. oneDNN would ask by itself, and what is
forked has leave from the process that asked."""


@dataclass(frozen=True)
class Start:
    """One process, as it started."""

    process: int
    answer: int
    """What the kernel said when AMX was asked for: 0, or an error number."""
    allowed: bool
    """Whether the kernel lists AMX among what the process may use."""


def recorder(folder: Path) -> str:
    """PYTHONPATH with the file under test, and behind it one that records."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(PROGRAM, encoding="utf-8")
    return f"{STARTUP}:{folder}"


def starts(folder: Path) -> list[Start]:
    """What has been recorded so far; a forked process follows the one that it came from."""
    text = (folder / "starts").read_text(encoding="utf-8")
    return [Start(**json.loads(line)) for line in text.splitlines()]


def machine_has_amx() -> bool:
    """Whether this machine's processor has AMX and its kernel hands it out."""
    if sys.platform != "linux":
        return False
    return re.search(r"\bamx_tile\b", Path("/proc/cpuinfo").read_text(encoding="utf-8")) is not None
