"""The command line's messages: one message names everything that is missing and the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cluster import ClusterError, ClusterSpec, GpuMount, NodeKind, tools
from tests.cluster.__main__ import main
from tests.cluster.paths import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


def command(*arguments: str, env: dict[str, str], options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *options, "-m", "tests.cluster", *arguments]
    return subprocess.run(line, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_packages_need_nothing_but_the_standard_library() -> None:
    done = command("packages", env={}, options=("-S",))
    assert done.returncode == 0, done.stderr
    assert {"runc", "nftables", "conntrack", "containernetworking-plugins"} <= set(done.stdout.split())


def test_one_message_names_everything_that_is_missing_and_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    lacking = {"runc", "nft", f"{tools.CNI_FOLDER}/bridge", "nsenter"}
    with pytest.raises(ClusterError) as caught:
        tools.check(NodeKind.REAL, present=lambda use: use not in lacking)
    message = str(caught.value)
    assert all(name in message for name in lacking)
    assert "conntrack" not in message
    assert "make system-packages" in message
    assert "apt-get install --no-install-recommends containernetworking-plugins nftables runc util-linux" in message


def test_without_nodes_no_container_tools_are_asked_for() -> None:
    tools.check(NodeKind.NONE, present=lambda use: use in {"nsenter", "setpriv", "unshare"})


def test_real_nodes_ask_for_root_and_name_the_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match=r"needs root.*--node none does not"):
        tools.check(NodeKind.REAL)


def test_build_without_go_says_which_version_is_needed(tmp_path: Path) -> None:
    done = command("build", env={"PATH": str(tmp_path), "VLLM_OPERATOR_CACHE": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.startswith("error: the test cluster's programs are built from source and need Go 1.")
    assert len(done.stderr.splitlines()) == 1


def test_kind_is_named_when_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, **_: None if name == "kind" else f"/usr/bin/{name}")
    monkeypatch.setattr("tests.cluster.launch.ensure_binaries", lambda _: tmp_path)
    assert main(["up", "--node", "kind"]) == 1
    assert "`kind` is not on PATH" in capsys.readouterr().err


def test_existing_names_the_file_that_it_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    monkeypatch.setattr("tests.cluster.launch.ensure_binaries", lambda _: tmp_path)
    assert main(["up", "--node", "existing"]) == 1
    assert f"{tmp_path}/absent, which does not exist: set KUBECONFIG" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["down"], ["env"], ["load-image", "x.tar"], ["kubectl", "get", "pods"]])
def test_commands_on_a_cluster_that_does_not_run_say_how_to_start_it(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLLM_OPERATOR_CACHE", str(tmp_path))
    assert main(arguments) == 1
    assert "no cluster named 'default' runs: start it with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "Upper"}, "cluster name 'Upper'"),
        ({"name": "../elsewhere"}, "cluster name"),
        ({"nodes": 0}, "0 nodes"),
        ({"nodes": 2, "node": NodeKind.NONE}, "several nodes need --node real"),
        ({"gpus": -1}, "-1 GPUs"),
    ],
)
def test_a_specification_that_cannot_be_started_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        ClusterSpec(**wrong)  # type: ignore[arg-type] # the table mixes the fields' types


def test_a_specification_survives_the_way_to_the_guard(tmp_path: Path) -> None:
    spec = ClusterSpec(
        name="x",
        nodes=3,
        gpus=0,
        images=(tmp_path,),
        gpu_mounts=(GpuMount(tmp_path, "/opt/x"),),
        audit_log=True,
        audit_reads=True,
        admission=("OwnerReferencesPermissionEnforcement",),
    )
    assert ClusterSpec.from_json(spec.to_json()) == spec
