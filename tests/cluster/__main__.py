"""Command line of the test cluster: `python -m tests.cluster --help`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import machine, state, tools
from tests.cluster.binaries import ACTIONLINT, AUTOSCALING, DRA, LWS, ensure_binaries, ensure_extra
from tests.cluster.cluster import Cluster, OwnCluster
from tests.cluster.errors import ClusterError
from tests.cluster.launch import attach, start
from tests.cluster.spec import ClusterSpec, GpuMount, Layout, NodeKind

if TYPE_CHECKING:
    from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    main = argparse.ArgumentParser(prog="python -m tests.cluster", description="A real Kubernetes cluster for tests.")
    commands = main.add_subparsers(dest="command", required=True)
    commands.add_parser("packages", help="print the Debian packages that the cluster uses").set_defaults(run=_packages)
    commands.add_parser("prepare", help="install the Debian packages that are missing (root)").set_defaults(
        run=_prepare
    )
    build = commands.add_parser("build", help="build the cluster's programs into the cache")
    build.add_argument("--extras", action="store_true", help="and those that only some tests need")
    build.add_argument("--autoscaling", action="store_true", help="and those that only `make autoscaling` needs")
    build.set_defaults(run=_build)
    commands.add_parser("status", help="show the running clusters").set_defaults(run=_status)
    up = commands.add_parser("up", help="start a cluster")
    up.set_defaults(run=_up)
    up.add_argument(
        "--node",
        type=NodeKind,
        choices=list(NodeKind),
        help="what runs the pods (default: real for root on Linux, else none)",
    )
    up.add_argument("--nodes", type=int, default=1, metavar="N", help="how many nodes")
    up.add_argument("--gpus", type=int, default=8, metavar="N", help="GPUs that each node advertises")
    up.add_argument("--image", type=Path, action="append", default=[], metavar="FILE", help="image archive to load")
    up.add_argument(
        "--gpu-mount", default="", metavar="DIR[:PATH][,...]", help="host folders for containers with a GPU"
    )
    up.add_argument(
        "--controller-manager", action=argparse.BooleanOptionalAction, default=True, help="with --node none"
    )
    up.add_argument("--audit-log", action="store_true", help="log write requests")
    down = commands.add_parser("down", help="take a cluster down")
    down.set_defaults(run=_down)
    down.add_argument("--all", action="store_true", help="take all clusters down")
    env = commands.add_parser("env", help="print shell exports: KUBECONFIG, PATH to kubectl and helm")
    env.set_defaults(run=_env)
    load = commands.add_parser("load-image", help="load image archives into a running cluster")
    load.set_defaults(run=_load_image)
    load.add_argument("files", type=Path, nargs="+", metavar="FILE")
    kubectl = commands.add_parser("kubectl", help="run kubectl on a cluster")
    kubectl.set_defaults(run=_kubectl)
    for command in (up, down, env, load, kubectl):
        command.add_argument("--name", default="default", help="the cluster's name")
    kubectl.add_argument("arguments", nargs=argparse.REMAINDER)
    return main


def _say(line: str) -> None:
    print(line, flush=True)


def _attached() -> list[Cluster]:
    """All running clusters but those that end at this moment."""
    found: list[Cluster] = []
    for layout in state.running():
        with suppress(ClusterError):
            found.append(attach(layout.state.name))
    return found


def _packages(_: argparse.Namespace) -> None:
    _say(" ".join(tools.packages()))


def _prepare(_: argparse.Namespace) -> None:
    machine.make_ready(_say)


def _build(arguments: argparse.Namespace) -> None:
    _say(f"programs: {ensure_binaries(_say)}")
    wanted = [*([LWS, DRA, ACTIONLINT] if arguments.extras else []), *(AUTOSCALING if arguments.autoscaling else [])]
    for part in wanted:
        _say(f"and {ensure_extra(part, _say)}")


def _up(arguments: argparse.Namespace) -> None:
    default = NodeKind.REAL if sys.platform == "linux" and os.geteuid() == 0 else NodeKind.NONE
    spec = ClusterSpec(
        name=arguments.name,
        node=arguments.node or default,
        nodes=arguments.nodes,
        gpus=arguments.gpus,
        images=tuple(path.resolve() for path in arguments.image),
        gpu_mounts=tuple(GpuMount.parse(mount) for mount in arguments.gpu_mount.split(",") if mount),
        controller_manager=arguments.controller_manager,
        audit_log=arguments.audit_log,
    )
    started = start(spec, report=_say)
    if isinstance(started, OwnCluster):
        started.detach()
    _say(f"cluster {spec.name!r} is up; for kubectl: eval $(python -m tests.cluster env --name {spec.name})")


def _down(arguments: argparse.Namespace) -> None:
    for found in _attached() if arguments.all else [attach(arguments.name)]:
        found.stop()
        _say(f"cluster {found.spec.name!r} is down")


def _status(_: argparse.Namespace) -> None:
    clusters = _attached()
    if not clusters:
        _say("no cluster runs")
    for running in clusters:
        layout = Layout.of(running.spec.name)
        _say(f"{running.spec.name}: --node {running.spec.node}, {'ready' if layout.ready.exists() else 'not ready'}")
        _say(f"  kubeconfig {running.kubeconfig}")
        _say(f"  logs       {layout.logs}")
        for part in running.components():
            pid = f"pid {part.process.pid}" if part.process else "down"
            _say(f"  {part.name:28} {pid:12} restarts {part.restarts}")


def _env(arguments: argparse.Namespace) -> None:
    for key, value in attach(arguments.name).exports.items():
        _say(f"export {key}={shlex.quote(value)}")


def _load_image(arguments: argparse.Namespace) -> None:
    for file in arguments.files:
        attach(arguments.name).load_image(file.resolve())
        _say(f"loaded {file}")


def _kubectl(arguments: argparse.Namespace) -> None:
    found = attach(arguments.name)
    program = str(found.binaries / "kubectl")
    os.execve(program, [program, *arguments.arguments], found.env)  # noqa: S606 - kubectl takes over the terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors become one message and exit code 1."""
    parsed = parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
