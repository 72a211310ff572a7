"""Read the file of a domain."""

from __future__ import annotations

from pathlib import Path

import yaml

from ..models.domain import DomainPack  # noqa: TID252 - the package has two names: echo_roots, and one for mypy


def load_domain_pack(path: str | Path) -> DomainPack:
    """What the file says."""
    return DomainPack(**yaml.safe_load(Path(path).read_text(encoding="utf-8")))
