"""Engines of several pods: of what their pods tell, what is told of each engine. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.groups import group_of, is_leader
from vllm_operator.diagnosis.cause import EngineState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.diagnosis.engines import EngineReport

_FIRST: Final = 0


def one_for_each_group(
    reports: tuple[EngineReport, ...], pods: Iterable[Mapping[str, Any]]
) -> tuple[EngineReport, ...]:
    """The reports, with one in place of those of all pods of a group.

    It is the leader's: the leader serves, and its manager asks those of the workers. A worker that fails is told in its
    place where the leader does not serve, unless the leader knows of a failure of its own: the leader can only wait for
    it. Pods that are of no group keep their reports.
    """
    of_groups = {str(pod["metadata"]["name"]): (group_of(pod), is_leader(pod)) for pod in pods if group_of(pod)}
    members: dict[str, list[tuple[bool, EngineReport]]] = {}
    for report in reports:
        if report.pod in of_groups:
            group, leads = of_groups[report.pod]
            members.setdefault(group, []).append((leads, report))
    told = [report for report in reports if report.pod not in of_groups]
    told += [_of_group(found) for found in members.values()]
    return tuple(sorted(told, key=lambda report: report.pod))


def _of_group(members: list[tuple[bool, EngineReport]]) -> EngineReport:
    leader = next((report for leads, report in members if leads), None)
    workers = [report for leads, report in members if not leads]
    if leader is not None and (leader.state is EngineState.SERVING or leader.diagnosis is not None):
        return leader
    failing = [report for report in workers if report.state is EngineState.FAILING]
    explained = [report for report in failing if report.diagnosis is not None]
    if explained:
        return explained[_FIRST]
    if failing and (leader is None or leader.state is not EngineState.FAILING):
        return failing[_FIRST]
    return leader or workers[_FIRST]
