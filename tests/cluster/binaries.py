"""Build the cluster's programs from the Go modules beside this file, once per version, into the cache folder."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.errors import ClusterError
from tests.cluster.files import atomic_folder, locked
from tests.cluster.paths import EXTRA_GO_MODULES, GO_MODULES, cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

HEARTBEAT_SECONDS = 20.0
MULTI_CALL = "controlplane"
MULTI_CALL_NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
_KUBERNETES_VERSION = "v1.37.2"
_STRIP = "-s -w"
_HELM_3_FLAGS = " ".join(
    f"-X helm.sh/helm/v3/pkg/chartutil.k8sVersion{part}={number}"
    for part, number in zip(("Major", "Minor"), _KUBERNETES_VERSION.removeprefix("v").split("."), strict=False)
)
"""Which Kubernetes `helm template` is to render for, as a release of Helm 3 has it built in."""
_VERSION_FLAGS = " ".join(
    f"-X {package}.gitVersion={_KUBERNETES_VERSION}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Programs that one call of `go build` makes from one module."""

    module: str
    packages: tuple[str, ...]
    link_flags: str = _STRIP
    flags: tuple[str, ...] = ()
    modules: Path = GO_MODULES
    """Folder of the module's own."""
    program: str = ""
    """Name of its one program, where that of the package is taken; empty: the packages give the names."""

    def command(self, target: Path) -> list[str]:
        """The command that builds the part into the folder."""
        flags = ["-trimpath", "-buildvcs=false", "-v", *self.flags, "-ldflags", self.link_flags]
        return ["go", "build", *flags, "-o", f"{target}/{self.program}", *self.packages]


PARTS = (
    Part(
        module="kubernetes",
        packages=("./pause", "./deviceplugin", "./controlplane", "./kubectl"),
        link_flags=f"{_STRIP} {_VERSION_FLAGS}",
    ),
    Part(
        module="containerd",
        packages=tuple(
            f"github.com/containerd/containerd/v2/cmd/{name}"
            for name in ("containerd", "containerd-shim-runc-v2", "ctr")
        ),
        flags=("-tags", "no_btrfs"),
    ),
    Part(module="coredns", packages=(".",)),
    Part(module="helm", packages=("helm.sh/helm/v4/cmd/helm",)),
    # in the module of the other one, and so with the same client-go: only its own packages are built besides
    Part(
        module="helm", packages=("helm.sh/helm/v3/cmd/helm",), link_flags=f"{_STRIP} {_HELM_3_FLAGS}", program="helm3"
    ),
)


def ensure_binaries(report: Callable[[str], None] = lambda _: None) -> Path:
    """The folder with all programs; builds it when this version of it does not exist yet."""
    target = cache_folder() / "binaries" / _version_key()
    if target.exists():
        return target
    with locked(target.parent / ".lock"):
        if not target.exists():
            with atomic_folder(target) as folder:
                for number, part in enumerate(PARTS, start=1):
                    _build(part, folder, f"[{number}/{len(PARTS)}] {part.program or part.module}", report)
                for name in MULTI_CALL_NAMES:
                    (folder / name).symlink_to(MULTI_CALL)
    return target


LWS = Part(module="lws", packages=("sigs.k8s.io/lws/cmd",), modules=EXTRA_GO_MODULES)
"""The controller of LeaderWorkerSets, a program called `cmd`."""

ACTIONLINT = Part(
    module="actionlint", packages=("github.com/rhysd/actionlint/cmd/actionlint",), modules=EXTRA_GO_MODULES
)
"""What checks .github/workflows."""


KUEUE = Part(module="kueue", packages=("sigs.k8s.io/kueue/cmd/kueue",), modules=EXTRA_GO_MODULES)
"""Kueue's controller and webhooks. It takes minutes to build, so only who asks for it does: `make kueue`."""


DRA = Part(module="dra", packages=(".",), modules=EXTRA_GO_MODULES)
"""A driver of Dynamic Resource Allocation for devices that do not exist; the program is called `dra`."""

KEDA = Part(
    module="keda",
    packages=tuple(f"github.com/kedacore/keda/v2/cmd/{name}" for name in ("operator", "adapter", "webhooks")),
    modules=EXTRA_GO_MODULES,
)
"""What follows ScaledObjects, what tells autoscalers their metrics, and what judges them when they are applied."""

PROMETHEUS_ADAPTER = Part(
    module="prometheus-adapter", packages=("sigs.k8s.io/prometheus-adapter/cmd/adapter",), modules=EXTRA_GO_MODULES
)
"""Custom metrics out of a Prometheus, a program called `adapter`."""

AUTOSCALING = (KEDA, PROMETHEUS_ADAPTER)
"""For `make autoscaling` alone: the first takes as long as Kubernetes."""


def ensure_extra(part: Part, report: Callable[[str], None] = lambda _: None) -> Path:
    """The folder with the programs of one part that only some clusters have; builds it when it does not exist yet.

    Such a part is none of PARTS: a change of it builds no other program anew, and who needs none of it builds none.
    """
    target = cache_folder() / "extras" / part.module / _key_of((part,), part.modules / part.module)
    with locked(target.parent / ".lock"):
        if not target.exists():
            with atomic_folder(target) as folder:
                _build(part, folder, part.module, report)
    return target


def extra_source(part: Part, module: str) -> Path:
    """The folder with the sources of a module that a part is made of, such as for its manifests."""
    words = ["go", "mod", "download", "-json", module]
    _go_version()
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=part.modules / part.module)
    return Path(json.loads(done.stdout)["Dir"])


def _version_key() -> str:
    """A hash over everything that decides what the programs are: sources, pinned versions, flags and the Go version."""
    return _key_of(PARTS, GO_MODULES)


def _key_of(parts: tuple[Part, ...], folder: Path) -> str:
    commands = [part.command(Path("programs")) for part in parts]
    digest = hashlib.sha256(repr((commands, MULTI_CALL_NAMES, _go_version())).encode())
    sources = (path for path in folder.rglob("*") if path.suffix in {".go", ".mod", ".sum"})
    for path in sorted(sources):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:24]


def _go_version() -> str:
    if shutil.which("go") is None:
        required = (GO_MODULES / "kubernetes" / "go.mod").read_text(encoding="utf-8").partition("\ngo ")[2].split()[0]
        raise ClusterError(
            f"the test cluster's programs are built from source and need Go {required} or newer, "
            "but there is no `go` on PATH: install it and run this again"
        )
    return subprocess.run(
        ["go", "env", "GOVERSION", "GOOS", "GOARCH"],
        check=True,
        capture_output=True,
        text=True,
        cwd=GO_MODULES / "kubernetes",
    ).stdout


def _build(part: Part, folder: Path, label: str, report: Callable[[str], None]) -> None:
    start = time.monotonic()
    report(f"{label}: building")
    with subprocess.Popen(
        part.command(folder),
        cwd=part.modules / part.module,
        env={**os.environ, "CGO_ENABLED": "0"},  # static programs: pause has no C library in its image
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        lines = _follow(process, lambda count: report(f"{label}: {count} packages, {time.monotonic() - start:.0f} s"))
    if process.returncode != 0:
        raise ClusterError(f"{label}: go build failed:\n" + "".join(lines[-30:]))
    report(f"{label}: done in {time.monotonic() - start:.0f} s")


def _follow(process: subprocess.Popen[str], beat: Callable[[int], None]) -> list[str]:
    """Collect the lines that the build writes (-v: one per package) and report their number now and then."""
    lines: list[str] = []
    arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
    stream = process.stderr
    if stream is None:
        raise TypeError("the process must have a pipe on stderr")

    def read() -> None:
        for line in itertools.chain(stream, [""]):
            arrived.put(line)

    threading.Thread(target=read, daemon=True).start()
    next_beat = time.monotonic() + HEARTBEAT_SECONDS
    while True:
        try:
            line = arrived.get(timeout=max(0.0, next_beat - time.monotonic()))
        except queue.Empty:
            line = None
        if time.monotonic() >= next_beat:
            beat(len(lines))
            next_beat += HEARTBEAT_SECONDS
        if line == "":
            return lines
        if line is not None:
            lines.append(line)
