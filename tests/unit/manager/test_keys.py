"""Several API keys reach the engine, and no command line shows them."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from vllm_operator.manager import keys

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {"VLLM_API_KEY": "first-key", "API_KEY_2": "second-key", "EMPTY": ""}


def test_all_keys_that_are_not_empty_stand_in_a_file_of_the_user_alone(tmp_path: Path) -> None:
    words = keys.arguments(["VLLM_API_KEY", "EMPTY", "API_KEY_2"], KEYS, [str(tmp_path)])
    file = tmp_path / keys.FILE
    assert words == ["--config", str(file)]
    assert json.loads(file.read_text(encoding="utf-8")) == {"api-key": ["first-key", "second-key"]}
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IRUSR | stat.S_IWUSR


def test_a_file_that_others_have_left_there_is_not_written_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    (tmp_path / keys.FILE).symlink_to(elsewhere)
    keys.arguments(["VLLM_API_KEY"], KEYS, [str(tmp_path)])
    assert elsewhere.read_bytes() == b""
    assert not (tmp_path / keys.FILE).is_symlink()


def test_a_folder_that_cannot_be_written_has_a_substitute(tmp_path: Path) -> None:
    assert keys.arguments(["API_KEY_2"], KEYS, [str(tmp_path / "none"), str(tmp_path)])[1] == str(tmp_path / keys.FILE)


def test_no_key_at_all_is_refused_since_the_server_would_be_open(tmp_path: Path) -> None:
    with pytest.raises(keys.NoKeysError, match="none of the variables EMPTY, MISSING holds an API key"):
        keys.arguments(["EMPTY", "MISSING"], KEYS, [str(tmp_path)])


def test_no_place_for_the_file_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(keys.NoKeysError, match="mount a writable emptyDir"):
        keys.arguments(["API_KEY_2"], KEYS, [str(tmp_path / "none")])
