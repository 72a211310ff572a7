"""Rights that are missing: read from refusals as API servers word them, told once, and known until they are there."""

from __future__ import annotations

import logging

import pytest

from vllm_operator.cluster.remedies import Outage, outage_of
from vllm_operator.cluster.rights import MissingRight, MissingRights, missing_right
from vllm_operator.cluster.scope import EVERYTHING, Scope

USER = 'User "system:serviceaccount:vllm-system:vllm-operator"'
PATCH = (
    f'deployments.apps "qwen" is forbidden: {USER} cannot patch resource "deployments" in API group "apps" in the '
    'namespace "team" (HTTP 403)'
)
LIST = f'secrets is forbidden: {USER} cannot list resource "secrets" in API group "" at the cluster scope (HTTP 403)'
STATUS = (
    f'vllmmodels.vllm.echo-roots.io "qwen" is forbidden: {USER} cannot patch resource "vllmmodels/status" in API group '
    '"vllm.echo-roots.io" in the namespace "team" (HTTP 403)'
)
NODES = f'nodes is forbidden: {USER} cannot list resource "nodes" in API group "" at the cluster scope (HTTP 403)'
QUOTA = 'pods "qwen-x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1 (HTTP 403)'
SOME = Scope(namespaces=("team",))


@pytest.mark.parametrize(
    ("message", "scope", "expected"),
    [
        (PATCH, EVERYTHING, "patch deployments.apps in team"),
        (LIST, EVERYTHING, "list secrets"),
        (STATUS, EVERYTHING, "patch vllmmodels.vllm.echo-roots.io/status in team"),
        (NODES, EVERYTHING, ""),
        (QUOTA, EVERYTHING, ""),
        (PATCH, SOME, "patch deployments.apps in team"),
        (LIST, SOME, ""),
    ],
)
def test_a_refusal_names_the_right(message: str, scope: Scope, expected: str) -> None:
    assert str(missing_right(message, scope) or "") == expected


def test_the_question_has_the_subresource_apart() -> None:
    right = missing_right(STATUS, EVERYTHING)
    assert right is not None
    attributes = right.review["spec"]["resourceAttributes"]
    assert attributes == {
        "verb": "patch",
        "group": "vllm.echo-roots.io",
        "resource": "vllmmodels",
        "subresource": "status",
        "namespace": "team",
    }


def test_many_refusals_are_one_line_a_minute_and_all_of_them_are_known(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    rights = MissingRights(clock=lambda: now[0])
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            rights.refused(PATCH)
            rights.refused(STATUS)
            rights.refused(QUOTA)
    (line,) = caplog.messages
    assert line == f"the operator may not patch deployments.apps in team: {Outage.NO_RIGHT}"
    assert (
        rights.trouble == "may not patch deployments.apps in team, patch vllmmodels.vllm.echo-roots.io/status in team"
    )
    now[0] = 61.0
    rights.refused(STATUS)
    assert len(caplog.messages) == 2
    assert rights.trouble in caplog.messages[1]


def test_what_is_granted_again_is_over_when_all_of_it_is(caplog: pytest.LogCaptureFixture) -> None:
    rights = MissingRights()
    rights.refused(PATCH)
    rights.refused(STATUS)
    first, second = rights.missing
    rights.granted(first)
    assert rights.found.is_set()
    with caplog.at_level(logging.INFO):
        rights.granted(second)
        rights.granted(MissingRight("get", "pods", "", ""))
    assert caplog.messages[1:] == ["the operator has the rights again that it was refused"]
    assert not rights.found.is_set()
    assert rights.trouble == ""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (LIST, Outage.NO_RIGHT),
        (QUOTA, None),
        ("etcdserver: mvcc: database space exceeded (HTTP 500)", Outage.STORE_FULL),
        ("Unauthorized (HTTP 401)", Outage.UNKNOWN_USER),
        ("Cannot connect to host 10.0.0.1:443 ssl:default [Connect call failed]", Outage.UNREACHABLE),
        ("no answer within 30 s", Outage.UNREACHABLE),
        ("TimeoutError()", Outage.UNREACHABLE),
        ("404 page not found (HTTP 404)", Outage.NO_DEFINITION),
        ("vllm.echo-roots.io is not among the API groups yet", Outage.NO_DEFINITION),
        ("the watch ended at once", None),
    ],
)
def test_an_outage_is_known_by_its_words(message: str, expected: Outage | None) -> None:
    assert outage_of(message, of_definition=True) is expected


def test_only_the_resource_itself_is_missing_for_want_of_its_definition() -> None:
    assert outage_of("404 page not found (HTTP 404)") is None


def test_what_is_missing_where_nothing_is_followed_is_no_trouble_for_the_rest() -> None:
    rights = MissingRights(Scope(("team", "other")))
    rights.refused(PATCH)
    assert rights.trouble_in(frozenset({"other"})) == ""
    assert rights.trouble_in(frozenset({"team", "other"})) == rights.trouble
    assert rights.trouble_in(frozenset()) == rights.trouble
