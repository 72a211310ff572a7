"""State folders of clusters: made for one that starts, removed with every trace of one that is dead."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from typing import TYPE_CHECKING

from tests.cluster import cgroups
from tests.cluster.errors import ClusterError
from tests.cluster.files import locked
from tests.cluster.paths import cache_folder, clusters_folder
from tests.cluster.processes import Process
from tests.cluster.spec import ClusterSpec, Layout, NodeKind

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 10.0


def create(spec: ClusterSpec) -> int:
    """Make the state folder of a new cluster; returns the open lock, which its guard has to hold.

    Raises:
        ClusterError: a cluster of this name runs.
    """
    layout = Layout.of(spec.name)
    with locked(clusters_folder() / ".lock"):
        _sweep()
        try:
            layout.state.mkdir()
        except FileExistsError:
            raise ClusterError(
                f"a cluster named {spec.name!r} runs already: take it down with "
                f"`python -m tests.cluster down --name {spec.name}`, or choose another --name"
            ) from None
        for folder in (layout.logs, layout.config, layout.temporary, layout.components):
            folder.mkdir()
        layout.spec.write_text(spec.to_json(), encoding="utf-8")
        handle = os.open(layout.lock, os.O_CREAT | os.O_RDWR)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle


def running() -> list[Layout]:
    """The clusters that run; leftovers of dead ones are removed."""
    with locked(clusters_folder() / ".lock"):
        _sweep()
        return [Layout(path) for path in sorted(clusters_folder().iterdir()) if not path.name.startswith(".")]


def remove(layout: Layout) -> None:
    """Remove every trace of the cluster that the calling process guards."""
    _remove_all_but_state(layout)
    with locked(clusters_folder() / ".lock"):  # whoever looks at the folders sees this one whole or not at all
        doomed = _set_aside(layout)
    shutil.rmtree(doomed)


def kept_logs(name: str) -> Path:
    """Where the logs of a cluster that failed to start are kept."""
    return cache_folder() / "failed-logs" / name


def _remove_all_but_state(layout: Layout) -> None:
    supervisor = Process.load(layout.supervisor)
    if supervisor:
        supervisor.kill()
        if not supervisor.wait(_SECONDS):
            raise ClusterError(f"process {supervisor.pid} of the cluster {layout.state.name!r} does not die")
    if layout.spec.exists() and _kind(layout) is NodeKind.NONE:
        _await_components(layout)
    else:
        cgroups.remove(layout.cgroup)
    if not layout.ready.exists():
        _keep_logs(layout)


def _set_aside(layout: Layout) -> Path:
    """Free the cluster's name; the folder that is returned says by its name which process is about to remove it."""
    doomed = layout.state.with_name(f".{layout.state.name}.{os.getpid()}")
    return layout.state.rename(doomed)


def _sweep() -> None:
    for path in clusters_folder().iterdir():
        if path.name == ".lock":
            continue
        if path.name.startswith("."):
            if Process.of(int(path.suffix[1:])) is None:  # a removal that was interrupted
                shutil.rmtree(path)
        elif not _alive(Layout(path)):
            _remove_all_but_state(Layout(path))
            shutil.rmtree(_set_aside(Layout(path)))


def _alive(layout: Layout) -> bool:
    if layout.spec.exists() and _kind(layout) is NodeKind.KIND:
        return True  # its processes belong to a container engine
    if not layout.lock.exists():
        return False
    with layout.lock.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _kind(layout: Layout) -> NodeKind:
    return NodeKind(json.loads(layout.spec.read_text(encoding="utf-8"))["node"])


def _await_components(layout: Layout) -> None:
    """Without namespaces every component dies by the signal that the kernel sends when its parent dies."""
    for path in layout.components.glob("*.json"):
        for row in json.loads(path.read_text(encoding="utf-8")):
            process = Process(row["pid"], row["start"])
            process.kill()
            if not process.wait(_SECONDS):
                raise ClusterError(f"{row['name']} (process {process.pid}) does not die")


def _keep_logs(layout: Layout) -> None:
    target = kept_logs(layout.state.name)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if layout.logs.exists():
        shutil.copytree(layout.logs, target)
