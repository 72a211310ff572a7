"""Certificates of servers, and the volume of a Secret that holds one, as kubelet makes it and changes it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.cluster.pki import Authority, Pair

AUTHORITY = Authority()
"""Signs all of them; no machine believes it."""


def pair(host: str = "qwen.team.svc") -> Pair:
    """A new certificate of a host, with its key."""
    return AUTHORITY.server("engine", hosts=[host])


class Secret:
    """A Secret's volume as kubelet makes it: each change is a new folder, behind one link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.changes = 0
        for name in ("tls.crt", "tls.key"):
            (folder / name).symlink_to(Path("..data") / name)

    def hold(self, certificate: bytes, key: bytes) -> None:
        """Have it hold these, as kubelet does when the Secret has changed."""
        self.changes += 1
        new, old = self.folder / f"..{self.changes}", self.folder / f"..{self.changes - 1}"
        new.mkdir()
        (new / "tls.crt").write_bytes(certificate)
        (new / "tls.key").write_bytes(key)
        (self.folder / "..next").symlink_to(new.name)
        (self.folder / "..next").rename(self.folder / "..data")
        shutil.rmtree(old, ignore_errors=True)


def asking(prompt: str) -> str:
    """The program of an application that has a model's binding, believes the authority, and prints the answer."""
    return _ASKING.format(authority=AUTHORITY.certificate.decode(), prompt=prompt)


_ASKING = """
import os
from vllm_client.__main__ import main
open("/tmp/ca.pem", "w").write('''{authority}''')
os.environ["VLLM_CA_FILE"] = "/tmp/ca.pem"
raise SystemExit(main([{prompt!r}]))
"""


def secret_of(name: str, host: str) -> dict[str, Any]:
    """The Secret with a new certificate of a host, as the API server takes it."""
    one = pair(host)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": one.certificate.decode(), "tls.key": one.key.decode()},
    }
