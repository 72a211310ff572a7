"""The time line over the lives of a container, and what its file may not do to anybody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from vllm_operator.manager.timeline import FILE, MOST_ENTRIES, MOST_LINES, SENTENCE_LENGTH, TimeLine

if TYPE_CHECKING:
    from pathlib import Path

NOON = "2026-11-26T12:00:00Z"


def test_a_new_judge_of_the_same_life_goes_on_where_the_one_before_was(tmp_path: Path) -> None:
    TimeLine(str(tmp_path), "life").add(NOON, "starting", "Loading", "nothing listens")
    found = TimeLine(str(tmp_path), "life")
    assert [entry.as_dict() for entry in found.entries] == [
        {"time": NOON, "verdict": "starting", "cause": "Loading", "sentence": "nothing listens"}
    ]
    assert found.last == found.entries[0]
    assert not found.ended_for_a_fault()


@pytest.mark.parametrize(
    ("last", "fault"), [("restart", True), ("leaving", True), ("serving", False), ("withdrawn", False)]
)
def test_a_life_that_its_judge_or_kubelet_ended_makes_the_next_one_a_restart(
    tmp_path: Path, last: str, *, fault: bool
) -> None:
    first = TimeLine(str(tmp_path), "first")
    first.add(NOON, "serving", "Serving", "makes steps")
    first.add(NOON, last, "Cause", "sentence")
    second = TimeLine(str(tmp_path), "second")
    second.add(NOON, "starting", "Loading", "nothing listens")
    assert second.ended_for_a_fault() is fault
    assert second.last is not None
    assert second.last.verdict == "starting"
    assert [entry.verdict for entry in second.entries] == ["serving", last, "starting"]


def test_memory_and_file_stay_bounded_whatever_is_added(tmp_path: Path) -> None:
    line = TimeLine(str(tmp_path), "life")
    for number in range(3 * MOST_LINES):
        line.add(NOON, "serving", str(number), "x" * 10_000)
    assert len(line.entries) == MOST_ENTRIES
    assert line.entries[-1].cause == str(3 * MOST_LINES - 1)
    lines = (tmp_path / FILE).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) < SENTENCE_LENGTH + 200
    assert [entry.cause for entry in TimeLine(str(tmp_path), "life").entries] == [entry.cause for entry in line.entries]


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\xff\xfe\x00garbage\n" * 100,
        b"[" * 60_000,
        b'{"time": 1, "verdict": [], "cause": null, "sentence": {}, "life": true}\n',
        b'{"verdict": "serving"}\n17\nnull\n"text"\n',
        b"x" * 1_000_000,
        b"",
    ],
    ids=["bytes", "nesting", "types", "shapes", "large", "empty"],
)
def test_rubbish_in_the_file_is_read_over_and_written_over(tmp_path: Path, rubbish: bytes) -> None:
    good = {"time": NOON, "verdict": "restart", "cause": "Stalled", "sentence": "no step", "life": "first"}
    (tmp_path / FILE).write_bytes(rubbish + b"\n" + json.dumps(good).encode() + b"\n")
    line = TimeLine(str(tmp_path), "second")
    assert [entry.cause for entry in line.entries] == ["Stalled"]
    assert line.ended_for_a_fault()
    line.add(NOON, "starting", "Loading", "nothing listens")
    assert len((tmp_path / FILE).read_text(encoding="utf-8").splitlines()) == 2


def test_a_folder_or_a_pipe_in_the_files_place_is_no_fault(tmp_path: Path) -> None:
    for make in (os.mkdir, os.mkfifo):
        path = tmp_path / FILE
        make(path)
        line = TimeLine(str(tmp_path), "life")
        line.add(NOON, "serving", "Serving", "makes steps")
        assert [entry.verdict for entry in line.entries] == ["serving"]
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_volume_that_cannot_be_written_costs_the_file_alone_and_is_told(tmp_path: Path) -> None:
    line = TimeLine(str(tmp_path / "missing"), "life")
    line.add(NOON, "serving", "Serving", "makes steps")
    assert [entry.verdict for entry in line.entries] == ["serving"]
    assert "kept in memory alone" in line.trouble
    (tmp_path / "missing").mkdir()
    line.add(NOON, "withdrawn", "Stalled", "no step")
    assert line.trouble == ""
    assert len(TimeLine(str(tmp_path / "missing"), "life").entries) == 2


FULL = """
mount -t tmpfs -o size=16k none "$1" &&
dd if=/dev/zero of="$1/filler" bs=4k count=4 status=none &&
exec "$2" -c "$3" "$1"
"""
ADDS = """
import sys
from vllm_operator.manager.timeline import TimeLine
line = TimeLine(sys.argv[1], "life")
for number in range(300):
    line.add("2026-11-26T12:00:00Z", "serving", str(number), "makes steps")
print(len(line.entries), line.entries[-1].cause, line.trouble)
"""


def test_a_volume_that_is_full_costs_the_file_alone(tmp_path: Path) -> None:
    unshare = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FULL, "sh")
    words = [*unshare, str(tmp_path), sys.executable, ADDS]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == f"{MOST_ENTRIES} 299 the time line is kept in memory alone: No space left on device\n", done
