"""Asks the kernel, in every Python process of an engine on CPU, for leave to use AMX.

Processors with AMX (Intel's Sapphire Rapids and newer) have registers so large that Linux lets a process use them only
after it has asked: `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`, see Documentation/arch/x86/xstate.rst of the
kernel. vLLM's CPU build (seen with 0.32.0) uses them for its attention without asking, and its worker dies with SIGILL
at the first prompt. Leave is the process's own: children that are forked have it too, and it is lost at exec.

Python imports a module of this name at the start of each process, whatever starts it. So this file lies in a folder of
its own, first on PYTHONPATH, which vLLM's processes hand on to theirs. Whoever else brings a `sitecustomize` loses
nothing: the next one on the path is run from here. Where there is no AMX, on other processors and on older kernels,
the request is refused, and nothing else happens. Standard library only, Python 3.9 and newer.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys

ARCH_PRCTL = 158
"""Number of the system call on x86-64, from arch/x86/entry/syscalls/syscall_64.tbl. Elsewhere it is another call's."""

ARCH_GET_XCOMP_PERM = 0x1022
ARCH_REQ_XCOMP_PERM = 0x1023
XFEATURE_XTILEDATA = 18
"""The data registers of AMX, as the kernel numbers what a processor has to save."""

NOT_ASKED = -1


def ask_for_amx() -> int:
    """0 where the process may use AMX now; the kernel's error number where not; NOT_ASKED where nobody can be asked.

    EOPNOTSUPP (95) is a processor without AMX, EINVAL (22) a kernel before Linux 5.16, which knows no such request.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64" or sys.maxsize < 2**32:
        return NOT_ASKED
    try:
        import ctypes  # noqa: PLC0415 # some Pythons are built without it, and then nobody can be asked
    except ImportError:
        return NOT_ASKED
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    words = [ctypes.c_long(number) for number in (ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)]
    return ctypes.get_errno() if call(*words) else 0


def run_next() -> None:
    """Run the `sitecustomize` that this one hides: the image's own, say, or a tracer's."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [folder for folder in sys.path if os.path.abspath(folder) != here]
    found = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if found is not None and found.loader is not None:
        found.loader.exec_module(importlib.util.module_from_spec(found))


AMX = ask_for_amx()
"""What came of it in this process."""

if __name__ == "sitecustomize":
    run_next()
