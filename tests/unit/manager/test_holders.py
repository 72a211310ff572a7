"""Who has the port, told from the kernel's tables and the descriptors of real processes."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from vllm_operator.manager import holders
from vllm_operator.manager.holders import is_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def port() -> Iterator[int]:
    """One on which this process listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """The processes that a container sees: one that has nothing open but a file."""
    (tmp_path / "7" / "fd").mkdir(parents=True)
    (tmp_path / "7" / "fd" / "0").symlink_to(os.devnull)
    (tmp_path / "self").symlink_to("7")
    return tmp_path


def test_a_port_is_held_elsewhere_where_no_process_in_sight_has_its_socket(port: int, container: Path) -> None:
    assert is_elsewhere(port, str(container))
    (container / "8").symlink_to(f"/proc/{os.getpid()}")
    assert not is_elsewhere(port, str(container))


def test_nobody_has_a_port_on_which_nothing_listens(container: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert not is_elsewhere(bound.getsockname()[1], str(container))


def test_what_cannot_be_told_is_not_held_elsewhere(port: int, container: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.listdir

    def refused(path: str) -> list[str]:
        if path.endswith("7/fd"):
            raise PermissionError(path)
        return real(path)

    with monkeypatch.context() as another_user:
        another_user.setattr(os, "listdir", refused)
        assert not is_elsewhere(port, str(container))
    with monkeypatch.context() as many:
        many.setattr(holders, "MOST_PROCESSES", 0)
        assert not is_elsewhere(port, str(container))
    with monkeypatch.context() as sandbox:
        sandbox.setattr(holders, "numbers_agree", lambda: False)
        assert not is_elsewhere(port, str(container))
    assert not is_elsewhere(port, str(container / "none"))
    assert is_elsewhere(port, str(container))


def test_a_process_that_ends_meanwhile_holds_nothing(port: int, container: Path) -> None:
    (container / "9").mkdir()
    (container / "7" / "fd" / "1").symlink_to("socket:[1]")
    assert is_elsewhere(port, str(container))
