"""The road of the data names files and functions that there are."""

from __future__ import annotations

import functools
import importlib
import re

import pytest

from tools.generate import REPOSITORY

ROAD = (REPOSITORY / "docs" / "development" / "road.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(vllm_operator[\w.]*:[\w.]+)`", ROAD)))


def test_the_page_names_the_whole_road() -> None:
    folders = {name.split(".")[1] for name in NAMED}
    assert {"api", "cluster", "controller", "diagnosis", "manager", "planner", "render"} <= folders
    steps = [int(number) for number in re.findall(r"^\| (\d+) \|", ROAD, re.MULTILINE)]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.parametrize("name", NAMED)
def test_what_the_road_names_is_there(name: str) -> None:
    module, _, path = name.partition(":")
    found = functools.reduce(getattr, path.split("."), importlib.import_module(module))
    assert found is not None
