"""The log on a disk without room: a real file that cannot grow, and a real pipe."""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING

import pytest

from vllm_operator.telemetry.log_output import HELPS, LogOutput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """A file that is written to its end."""
    found = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield found
    os.close(found)


def logger_on(output: LogOutput) -> logging.Logger:
    """A logger that writes there alone."""
    found = logging.getLogger(f"ours.{id(output)}")
    found.setLevel(logging.INFO)
    found.propagate = False
    found.addHandler(output)
    return found


def test_lines_are_written_whole_in_their_order(descriptor: int, tmp_path: Path) -> None:
    output = LogOutput(descriptor)
    logger = logger_on(output)
    logger.info("one")
    logger.info("two %d", 2)
    assert (tmp_path / "log").read_text() == "one\ntwo 2\n"
    assert output.trouble == ""


def test_what_could_not_be_written_is_counted_and_told_in_one_line(
    descriptor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, room = os.write, [8]

    def full(file: int, data: bytes) -> int:
        """A disk with so many bytes of room."""
        if file != descriptor or room[0] > 10_000:
            return write(file, data)
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(file, data[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", full)
    output = LogOutput(descriptor)
    logger = logger_on(output)
    for number in range(4):
        logger.info("line %d", number)
    assert output.trouble == "cannot write the log, 3 lines are lost: [Errno 28] No space left on device"
    room[0] = 1_000_000
    logger.info("after")
    assert output.trouble == ""
    first, torn, told, after = (tmp_path / "log").read_text().splitlines()
    assert (first, torn, after) == ("line 0", "l", "after")
    assert told == f"3 lines of the log are lost: it could not be written ([Errno 28] No space left on device): {HELPS}"
    assert capsys.readouterr().err == ""


def test_asking_is_enough_for_it_to_go_on(descriptor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = LogOutput(descriptor)
    with monkeypatch.context() as without_room:
        without_room.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        logger_on(output).info("lost")
        assert output.trouble
    assert output.trouble == ""
    assert "1 lines of the log are lost" in (tmp_path / "log").read_text()
