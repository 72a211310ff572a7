"""Arguments of one node of several."""

from __future__ import annotations

import pytest

from vllm_operator.cli.importing import spread
from vllm_operator.cli.importing.draft import Draft


@pytest.mark.parametrize(
    ("pods", "data", "given", "nodes"),
    [
        (1, 1, {"--nnodes": "2", "--node-rank": "1", "--headless": ""}, 2),
        (1, 8, {"--data-parallel-size-local": "4", "--data-parallel-start-rank": "4"}, 2),
        (1, 8, {"-dpl": "8"}, None),
        (1, 8, {"-dpl": "3"}, None),
        (1, 1, {"--data-parallel-backend": "mp"}, None),
        (2, 8, {"-dpl": "4"}, 2),
        (2, 1, {}, 2),
        (1, 1, {}, None),
        (1, 4, {"--data-parallel-size-local": "$(LOCAL)"}, None),
        (1, 4, {"--nnodes": "0"}, None),
    ],
)
def test_how_many_pods_an_engine_has(pods: int, data: int, given: dict[str, str], nodes: int | None) -> None:
    draft = Draft(pods=pods)
    draft.put(("parallelism", "data"), data)
    spread.write(draft, given)
    assert draft.get("parallelism", "nodes") == nodes
    told = " ".join(remark.text for remark in draft.remarks)
    assert all(name in told or not given[name].isdigit() for name in given)


def test_the_number_of_servers_goes_with_the_operators_own() -> None:
    draft = Draft()
    draft.put(("parallelism", "data"), 4)
    draft.put(("engine", "apiServerCount"), 2)
    spread.write(draft, {"--data-parallel-size-local": "2"})
    assert draft.get("engine") is None


def test_a_server_of_each_rank_is_told() -> None:
    draft = Draft(pods=2)
    draft.put(("parallelism", "data"), 2)
    spread.write(draft, {"--data-parallel-hybrid-lb": "", "--data-parallel-size-local": "1"})
    assert any("--data-parallel-hybrid-lb" in one.text and "one server" in one.text for one in draft.remarks)


@pytest.mark.parametrize("given", [{"--headless": ""}, {"--node-rank": "1"}, {"-dpr": "4", "-dpl": "4"}])
def test_a_part_of_nobody_knows_how_many_asks_for_a_look(given: dict[str, str]) -> None:
    draft = Draft()
    spread.write(draft, given)
    assert [remark.level for remark in draft.remarks] == ["check"]


def test_a_rank_by_itself_asks_for_a_look() -> None:
    draft = Draft()
    spread.write(draft, {"--data-parallel-rank": "1"})
    assert draft.remarks[0].level == "check"
