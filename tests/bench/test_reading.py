"""What the benchmark reads is read right: the audit log, histograms, the API server's counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from tests.bench.audit import AuditLog, Target, Write, lag_seconds, parse, stands_at
from tests.bench.bodies import owed, works
from tests.bench.figures import difference, percentile, quantile
from tests.bench.site import written

if TYPE_CHECKING:
    from pathlib import Path


def entry(name: str, *, second: int, resource: str = "services", code: int = 200) -> dict[str, object]:
    """One answered request of the operator."""
    return {
        "stage": "ResponseComplete",
        "verb": "patch",
        "user": {"username": "operator"},
        "objectRef": {"resource": resource, "namespace": "here", "name": name},
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": f"2026-01-01T00:00:{second:02}.000000Z",
        "stageTimestamp": f"2026-01-01T00:00:{second:02}.250000Z",
    }


def read(*entries: dict[str, object]) -> list[Write]:
    """The writes of these entries."""
    return [write for one in entries if (write := parse(one)) is not None]


def test_renewals_of_leases_are_counted_apart_by_user(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(orjson.dumps(entry("a", second=1, resource="leases")) + b"\n")
    log = AuditLog(path)
    log.read()
    assert (log.writes, log.renewals) == ([], {"operator": 1})
    log.forget()
    log.close()
    assert not log.renewals


def test_an_object_stands_from_its_first_successful_write() -> None:
    wanted = frozenset({Target("services", "here", "a"), Target("services", "here", "b")})
    refused, first, other, again = (
        entry("a", second=1, code=409),
        entry("a", second=2),
        entry("b", second=3),
        entry("a", second=9),
    )
    assert stands_at(read(refused, other), wanted) is None
    [write] = read(other)
    assert stands_at(read(refused, first, other, again), wanted) == write.answered


def test_a_lag_runs_from_the_answer_to_the_first_write_of_one_to_that_of_the_other() -> None:
    refused, made, follows, again = (
        entry("a", second=1, resource="vllmmodels", code=500),
        entry("a", second=2, resource="vllmmodels"),
        entry("a", second=4, resource="deployments"),
        entry("a", second=9, resource="deployments"),
    )
    follows["stageTimestamp"] = "2026-01-01T00:00:04.375000Z"
    status, neighbour = entry("a", second=3, resource="vllmmodels/status"), entry("b", second=3, resource="deployments")
    model, deployment = Target("vllmmodels", "here", "a"), Target("deployments", "here", "a")
    found = lag_seconds(read(refused, made, status, neighbour, follows, again), model, deployment)
    assert found == pytest.approx(2.125, abs=1e-6)


def test_there_is_no_lag_before_both_stand() -> None:
    model, deployment = Target("vllmmodels", "here", "a"), Target("deployments", "here", "a")
    made, denied = entry("a", second=2, resource="vllmmodels"), entry("a", second=3, resource="deployments", code=403)
    assert lag_seconds(read(made, denied), model, deployment) is None
    assert lag_seconds(read(entry("a", second=3, resource="deployments")), model, deployment) is None


def test_a_works_own_targets_are_among_what_is_owed() -> None:
    [work] = works("here", 1)
    assert {work.made, work.deployment} < owed([work])
    assert (work.made.resource, work.deployment.resource) == ("vllmmodels", "deployments")


def test_a_line_that_is_half_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    line = orjson.dumps(entry("a", second=1)) + b"\n"
    path.write_bytes(line[:20])
    log = AuditLog(path)
    log.read()
    assert log.writes == []
    with path.open("ab") as file:
        file.write(line[20:])
    log.read()
    log.close()
    assert [write.target.name for write in log.writes] == ["a"]


def test_the_log_is_followed_across_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(orjson.dumps(entry("a", second=1)) + b"\n")
    log = AuditLog(path)
    path.rename(tmp_path / "audit-1.log")
    path.write_bytes(orjson.dumps(entry("b", second=2)) + b"\n")
    log.read()
    log.close()
    assert [write.target.name for write in log.writes] == ["a", "b"]


def test_a_model_is_owed_itself_seven_children_and_a_status() -> None:
    assert sorted(target.resource for target in owed(works("here", 1))) == [
        "configmaps", "controllerrevisions", "deployments", "secrets", "serviceaccounts", "services", "services",
        "vllmmodels", "vllmmodels/status",
    ]  # fmt: skip


def test_the_owner_is_the_resource_that_was_made() -> None:
    [work] = works("here", 1)
    owners = {child["metadata"]["ownerReferences"][0]["uid"] for child in work.children_of("made")}
    assert owners == {"made"}


@pytest.mark.parametrize(("share", "expected"), [(0.5, 1.0), (0.25, 0.5), (0.75, 2.0), (1.0, 3.0)])
def test_a_quantile_is_interpolated_within_its_bucket(share: float, expected: float) -> None:
    assert quantile({1.0: 2, 3.0: 4, float("inf"): 4}, share) == expected


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert quantile({1.0: 1, float("inf"): 2}, 0.99) == 1.0


def test_a_quantile_of_nothing_is_zero() -> None:
    assert quantile({1.0: 0, float("inf"): 0}, 0.5) == 0.0


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 2.5), (0.95, 8.95), (1.0, 10.0)])
def test_a_percentile_is_interpolated_between_the_values_beside_it(share: float, expected: float) -> None:
    assert percentile([3.0, 10.0, 1.0, 2.0], share) == pytest.approx(expected)


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert [percentile([7.0], share) for share in (0.5, 0.95)] == [7.0, 7.0]


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_only_what_came_in_between_counts() -> None:
    assert difference({1.0: 5, 2.0: 9}, {1.0: 5, 2.0: 6}) == {1.0: 0, 2.0: 3}


def test_the_api_servers_counters_are_summed_without_reads_leases_and_events() -> None:
    def line(verb: str, resource: str, count: int) -> str:
        return f'apiserver_request_total{{code="200",resource="{resource}",verb="{verb}"}} {count}'

    text = "\n".join(
        [line("APPLY", "services", 3), line("PUT", "leases", 5), line("POST", "events", 7), line("LIST", "services", 9)]
    )
    assert written(text) == 3
