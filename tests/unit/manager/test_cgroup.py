"""What the kernel did for memory and CPU is read from both versions of cgroups, and never guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vllm_operator.manager.cgroup import cpu_periods, oom_kills

if TYPE_CHECKING:
    from pathlib import Path

V2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"


@pytest.mark.parametrize(
    ("place", "text", "own", "kills"),
    [
        ("memory.events", V2, "0::/\n", 2),
        ("kubepods/pod1/c1/memory.events", V2, "0::/kubepods/pod1/c1\n", 2),
        ("memory/memory.oom_control", V1, "5:memory:/kubepods/pod1/c1\n", 4),
        ("memory/kubepods/c1/memory.oom_control", V1, "6:cpu,cpuacct:/x\n5:memory:/kubepods/c1\n", 4),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", "5:memory:/\n", None),
        ("memory.events", "oom_kill many\n", "0::/\n", None),
        ("other", "", "nonsense\n", None),
    ],
    ids=["v2", "v2 seen from the host's root", "v1", "v1 from the host's root", "v1 before 4.13", "broken", "none"],
)
def test_kills_are_counted(tmp_path: Path, place: str, text: str, own: str, kills: int | None) -> None:
    file = tmp_path / "cgroup" / place
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="ascii")
    (tmp_path / "own").write_text(own, encoding="ascii")
    assert oom_kills(str(tmp_path / "cgroup"), str(tmp_path / "own")) == kills


def test_without_any_file_nothing_is_known(tmp_path: Path) -> None:
    assert oom_kills(str(tmp_path), str(tmp_path / "none")) is None


CPU = "usage_usec 1\nnr_periods 40\nnr_throttled 12\nthrottled_usec 9\n"


@pytest.mark.parametrize(
    ("place", "text", "own", "periods"),
    [
        ("cpu.stat", CPU, "0::/\n", (40, 12)),
        ("kubepods/c1/cpu.stat", CPU, "0::/kubepods/c1\n", (40, 12)),
        ("cpu/kubepods/c1/cpu.stat", "nr_periods 7\nnr_throttled 0\n", "6:cpu,cpuacct:/kubepods/c1\n", (7, 0)),
        ("cpu.stat", "usage_usec 1\nuser_usec 1\n", "0::/\n", None),
        ("cpu.stat", "nr_periods 0\nnr_throttled 0\n", "0::/\n", None),
    ],
    ids=["v2", "v2 seen from the host's root", "v1", "v2 without the controller", "no limit"],
)
def test_periods_without_cpu_are_counted(
    tmp_path: Path, place: str, text: str, own: str, periods: tuple[int, int] | None
) -> None:
    file = tmp_path / "cgroup" / place
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="ascii")
    (tmp_path / "own").write_text(own, encoding="ascii")
    assert cpu_periods(str(tmp_path / "cgroup"), str(tmp_path / "own")) == periods
