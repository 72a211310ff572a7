"""Builds images from Dockerfiles with Debian's buildah: its packages are unpacked into the cache folder, not installed.

RUN lines run in runc, as root and in this machine's network, since they install packages. Images come and go as
archives.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import debian
from tests.cluster.files import atomic_folder, locked
from tests.cluster.paths import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PACKAGES = (
    "buildah",
    "golang-github-containers-common",  # its policy.json
    "libassuan0",
    "libdevmapper1.02.1",
    "libgpg-error0",
    "libgpgme11",
    "libseccomp2",
    "libsubid4",
)
"""buildah and the libraries that it loads; what else Debian would install with it is for users other than root."""

MOUNTED = ("/etc/pip.conf", "/etc/ssl/certs")
"""How this machine reaches the package index, where it says so: for RUN lines, and no part of the image."""


@dataclass(frozen=True, kw_only=True)
class Buildah:
    """buildah with a store of its own."""

    root: Path
    """Folder of the unpacked packages."""
    store: Path

    def run(self, *words: str) -> str:
        """Run it, and return what it prints.

        Raises:
            RuntimeError: it failed; the message is its own.
        """
        libraries = ":".join(str(path) for path in sorted((self.root / "usr" / "lib").glob("*-linux-gnu")))
        options = ["--storage-driver=vfs", f"--root={self.store}/images", f"--runroot={self.store}/run"]
        options.append(f"--registries-conf={os.devnull}")
        done = subprocess.run(
            [self.root / "usr" / "bin" / "buildah", *options, *words],
            env={**os.environ, "LD_LIBRARY_PATH": libraries, "TMPDIR": str(self.store)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"buildah {' '.join(words)} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def build(self, dockerfile: Path, context: Path, *, bases: Mapping[str, str], target: Path) -> str:
        """Build a Dockerfile into an OCI archive, with other bases than it names; returns what buildah printed."""
        policy = f"--signature-policy={self.root}/etc/containers/policy.json"
        words = ["build", policy, "--isolation=oci", "--network=host", "--pull-never", "--layers", "--timestamp=0"]
        words += [f"--build-context={name}=container-image://{other}" for name, other in bases.items()]
        words += [f"--volume={path}:{path}:ro" for path in MOUNTED if Path(path).exists()]
        printed = self.run(*words, f"--file={dockerfile}", "--tag=built", str(context))
        self.run("push", policy, "--disable-compression", "built", f"oci-archive:{target}")
        return printed

    def run_in(self, *words: str) -> str:
        """Run a command in a container of what was built, as its user, without a network or a capability."""
        policy = f"--signature-policy={self.root}/etc/containers/policy.json"
        container = self.run("from", policy, "--pull-never", "built").strip()
        return self.run("run", "--isolation=oci", "--network=none", "--cap-drop=all", container, "--", *words)

    def load(self, archive: Path, name: str) -> None:
        """Take an image archive of `tests.cluster.images` into the store; its tag is that of `name`."""
        policy = f"--signature-policy={self.root}/etc/containers/policy.json"
        self.run("pull", policy, f"oci-archive:{archive}:{name.rpartition(':')[2]}")


@contextlib.contextmanager
def buildah() -> Iterator[Buildah]:
    """A buildah with an empty store, which is gone afterwards."""
    root = unpacked(PACKAGES)
    with tempfile.TemporaryDirectory(prefix="vllm-operator-buildah-") as store:
        yield Buildah(root=root, store=Path(store))


def unpacked(packages: Sequence[str]) -> Path:
    """The folder of these Debian packages' files; made once per version of theirs.

    Raises:
        ClusterError: apt has not got them.
    """
    key = hashlib.sha256("\n".join(debian.package_hashes(packages)).encode()).hexdigest()[:16]
    target = cache_folder() / "debian" / key
    with locked(target.with_suffix(".lock")):
        if not target.exists():
            with tempfile.TemporaryDirectory() as folder, atomic_folder(target) as root:
                for package in debian.download(packages, Path(folder)):
                    subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    return target
