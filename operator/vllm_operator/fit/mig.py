"""Slices of NVIDIA's GPUs (MIG), by the names of their profiles, with the memory that programs see.

A name is rounded up, and one name may be that of slices of several cards: the smallest counts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vllm_operator.fit.cards import Card
from vllm_operator.fit.settings import GIB

if TYPE_CHECKING:
    from collections.abc import Iterable

RESOURCE_PREFIX: Final = "nvidia.com/mig-"
"""What NVIDIA's device plug-in calls slices where it tells them apart (its strategy `mixed`)."""

_PROFILE: Final = re.compile(r"(?<![\w.])([1-7]g\.[0-9]{1,3}gb)(?![\w])")

_GUIDE: Final = "MIG user guide of NVIDIA, sample output of `nvidia-smi mig -lgip`"
_LISTED: Final = "`nvidia-smi mig -lgip` in pull requests of NVIDIA"

_A100: Final = "`nvidia-smi mig -lgip` of an A100 80GB in public reports; the smallest of several"

_MEMORY: Final = {
    # A100 40GB
    "1g.5gb": (4.75, _GUIDE),
    "2g.10gb": (9.75, _GUIDE),
    "3g.20gb": (19.62, _GUIDE),
    "4g.20gb": (19.62, _GUIDE),
    # A100 80GB; an H100 has a little more
    "1g.10gb": (9.50, _A100),
    "1g.20gb": (19.50, _A100),
    "2g.20gb": (19.50, _A100),
    "3g.40gb": (39.25, _A100),
    "4g.40gb": (39.25, _A100),
    "7g.80gb": (79.00, _A100),
    # H100 NVL
    "1g.12gb": (10.75, f"{_LISTED}: gpu-operator 900"),
    "1g.24gb": (20.00, f"{_LISTED}: gpu-operator 1303 (GB200; 21.62 of an H100 NVL)"),
    "2g.24gb": (21.62, f"{_LISTED}: gpu-operator 900"),
    # H200, GH200 144 GB
    "1g.18gb": (16.00, "`nvidia-smi mig -lgip` of an H200; 17.50 of a GH200 (mig-parted 139)"),
    "1g.36gb": (35.25, f"{_LISTED}: mig-parted 139"),
    "2g.36gb": (35.25, f"{_LISTED}: mig-parted 139"),
    # B200, GB200
    "1g.23gb": (20.50, f"{_LISTED}: mig-parted 187"),
    "1g.45gb": (44.25, f"{_LISTED}: mig-parted 187"),
    "2g.45gb": (44.25, f"{_LISTED}: mig-parted 187"),
    "1g.47gb": (45.50, f"{_LISTED}: gpu-operator 1303"),
    "2g.47gb": (45.50, f"{_LISTED}: gpu-operator 1303"),
}
"""GiB of a slice by the name of its profile."""

_LEAST: Final = 0.86
"""Of a profile that is not listed, this share of the GiB in its name. Of those that are it is 0.89 and more, but for
the 1g.24gb of a GB200 with 0.83."""


def slice_named(profile: str) -> Card | None:
    """The slice of a profile such as `1g.10gb`; None where that is no name of one."""
    if not _PROFILE.fullmatch(profile):
        return None
    sold = int(profile.partition(".")[2].removesuffix("gb"))
    guess = f"{_LEAST:.0%} of the size in its name, since nobody has read its memory"
    gib, source = _MEMORY.get(profile, (sold * _LEAST, guess))
    return Card(name=f"MIG {profile}", memory_bytes=int(gib * GIB), sold_gib=sold, source=source)


def slice_in(texts: Iterable[str]) -> Card | None:
    """The slice that the first text with the name of a profile names, such as a resource or a product."""
    found = (match for text in texts if (match := _PROFILE.search(text.lower())))
    return next((slice_named(match[1]) for match in found), None)


def is_slice(resource: str) -> bool:
    """Whether an extended resource is slices of GPUs."""
    return resource.startswith(RESOURCE_PREFIX)
