"""Which processes are the container's own, where it sees others too, in a folder that looks like /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from vllm_operator.gates import processes, stop

if TYPE_CHECKING:
    from pathlib import Path

OURS, OTHERS = "engine", "pause"
V1 = "12:memory:/kubepods/podX/{}\n1:name=systemd:/kubepods/podX/{}\n"
GROUPS = {
    "version 2, a namespace of its own": {OURS: "0::/\n", OTHERS: "0::/../cri-pause\n"},
    "version 2, the node's namespace": {OURS: "0::/kubepods/podX/engine\n", OTHERS: "0::/kubepods/podX/pause\n"},
    "version 1": {OURS: V1.format(OURS, OURS), OTHERS: V1.format(OTHERS, OTHERS)},
}
"""What /proc/N/cgroup holds for processes of this container and of another one."""


@dataclass(frozen=True)
class Node:
    """A folder in place of /proc."""

    folder: Path
    groups: dict[str, str]
    roots_are_shown: bool

    def start(self, number: int | str, container: str, *, at: int) -> None:
        """Add a process of a container."""
        place = self.folder / str(number)
        place.mkdir(parents=True)
        (place / "cgroup").write_text(self.groups.get(str(number), self.groups[container]), encoding="utf-8")
        fields = " ".join(["S", *["0"] * 18, str(at), "0"])
        (place / "stat").write_text(f"{number} (a) name) {fields}\n", encoding="utf-8")
        root = self.folder.parent / f"root-of-{container}"
        root.mkdir(exist_ok=True)
        if self.roots_are_shown or number == "self":
            (place / "root").symlink_to(root)


NODES = {
    **{
        f"other users' roots are not shown, control groups of {name}": (groups, False)
        for name, groups in GROUPS.items()
    },
    "the runtime has no control groups": ({OURS: "", OTHERS: ""}, True),
    "the runtime puts what it executes into a group of its own": (
        {OURS: "0::/a\n", OTHERS: "0::/b\n", "self": "0::/a/executed\n"},
        True,
    ),
}


@pytest.fixture(params=list(NODES.values()), ids=list(NODES))
def node(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """One in which this program runs as process 90."""
    found = Node(tmp_path / "proc", *request.param)
    found.start("self", OURS, at=900)
    found.start(90, OURS, at=900)
    (found.folder / "net").mkdir()
    monkeypatch.setattr(processes, "PROC", str(found.folder))
    monkeypatch.setattr(os, "getpid", lambda: 90)
    return found


def test_process_1_is_the_first_where_it_is_ours(node: Node) -> None:
    node.start(1, OURS, at=500)
    node.start(7, OURS, at=400)  # a clock is no proof: process 1 is
    assert (processes.first(), processes.container_birth()) == (1, "500")


@pytest.mark.parametrize("stranger", [1, 2], ids=["pause", "the node's init, and its helper"])
def test_the_oldest_of_ours_is_the_first_where_process_1_is_not(node: Node, stranger: int) -> None:
    for number in range(1, stranger + 1):
        node.start(number, OTHERS, at=10)
    node.start(30, OTHERS, at=100)
    node.start(40, OURS, at=300)
    node.start(41, OURS, at=350)
    assert (processes.first(), processes.container_birth()) == (40, "300")


def test_another_life_of_the_container_has_another_birth_though_process_1_stays(node: Node) -> None:
    node.start(1, OTHERS, at=10)
    node.start(40, OURS, at=300)
    before = processes.container_birth()
    (node.folder / "40").rename(node.folder.parent / "ended")
    node.start(50, OURS, at=600)
    assert (before, processes.container_birth()) == ("300", "600")


def test_the_end_of_an_engine_is_that_of_its_own_processes(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.start(1, OTHERS, at=10)
    node.start(30, OTHERS, at=100)
    node.start(40, OURS, at=300)
    node.start(41, OURS, at=350)
    ended: list[int] = []
    monkeypatch.setattr(os, "kill", lambda number, _: ended.append(number))
    stop.end(processes.first())
    assert ended == [40, 41]


def test_this_process_is_one_of_its_container_and_younger_than_the_first() -> None:
    first = processes.first()
    assert os.getpid() in processes.own()
    assert processes.started(first) <= processes.started(os.getpid())
    assert processes.container_birth() == str(processes.started(first))
