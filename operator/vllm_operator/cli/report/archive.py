"""The report as one file: an archive whose files hold no secrets."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vllm_operator.cli.report.scrub import Scrubber
from vllm_operator.cli.yaml_text import yaml_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from vllm_operator.cli.report.gather import Gathered

GAPS: Final = "not-read.yaml"
_MODE: Final = 0o600


def files(gathered: Gathered) -> dict[str, str]:
    """The files of a report by their paths, without secrets."""
    scrubber = Scrubber()
    for document in gathered.objects.values():
        scrubber.learn(document)
    found = {path: _shown(path, scrubber.object(document)) for path, document in gathered.objects.items()}
    found |= {path: scrubber.text(text) for path, text in gathered.texts.items()}
    if gathered.gaps:
        told = {what: scrubber.text(why) for what, why in gathered.gaps.items()}
        found[GAPS] = yaml_text([told], allow_unicode=True)
    return dict(sorted(found.items()))


def _shown(path: str, document: object) -> str:
    if path.endswith(".json"):
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return yaml_text(document if isinstance(document, list) else [document], allow_unicode=True)


def write(target: Path, content: Mapping[str, str], now: datetime) -> None:
    """Write the archive, whole or not at all, for its owner's eyes alone. A file that is there stays.

    Raises:
        OSError: it cannot be written, or there is one of that name.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            folder = target.name.removesuffix(".tar.gz")
            for path, text in content.items():
                body = text.encode("utf-8", "replace")
                member = tarfile.TarInfo(f"{folder}/{path}")
                member.size, member.mode, member.mtime = len(body), _MODE, int(now.timestamp())
                archive.addfile(member, io.BytesIO(body))
        os.link(name, target)  # unlike a rename, it does not take the place of a file that is there
    finally:
        Path(name).unlink()
