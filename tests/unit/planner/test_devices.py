"""Claims of devices: what happens in a cluster that knows none, and how long the templates of earlier specs stay."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import (
    as_desired,
    condition,
    deployment_status,
    desired,
    live,
    observation,
    pod,
    resource,
)
from vllm_operator.api.live import ObjectKey, key_of
from vllm_operator.planner.decide import decide
from vllm_operator.render.devices import KIND, shares_devices

Claim = dict[str, Any]

ONE: Claim = {"name": "gpu", "deviceClassName": "gpu.example.com", "count": 1}
OTHER: Claim = {**ONE, "selectors": ["device.attributes['gpu.example.com'].model == 'H100'"]}
SHARED: Claim = {"name": "gpu", "resourceClaimName": "ours"}
TEMPLATE: Claim = {"name": "gpu", "resourceClaimTemplateName": "ours"}


def raw(*claims: Claim, generation: int = 1, **spec: Any) -> dict[str, Any]:
    """A model whose engines get these claims, or a device of a plug-in where there are none."""
    accelerator = {"resourceClaims": list(claims)} if claims else {}
    return resource(generation=generation, accelerator=accelerator, **spec)


def template_of(wanted: dict[str, Any]) -> ObjectKey:
    """The ResourceClaimTemplate of its claims."""
    (found,) = (key for key in map(key_of, desired(wanted)) if key.kind == KIND)
    return found


def engine(wanted: dict[str, Any]) -> dict[str, Any]:
    """A pod of the template that a spec is rendered to."""
    found = pod(ready=True)
    found["spec"] = as_desired(wanted)[ObjectKey("Deployment", "qwen")]["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("claim", [ONE, SHARED, TEMPLATE], ids=["class", "claim", "template"])
def test_without_the_api_nothing_is_written_and_the_remedy_is_told(claim: Claim) -> None:
    plan = decide(observation(raw(claim), resource_claims=False))
    assert (plan.writes, plan.deletions) == ((), ())
    assert plan.status is not None
    told = condition(plan.status, "Stalled")
    assert (told["status"], told["reason"]) == ("True", "ResourceClaimsMissing")
    assert "upgrade it to Kubernetes 1.34 or newer" in told["message"]


def test_without_the_api_the_engines_of_an_earlier_spec_stay_as_they_are() -> None:
    before = as_desired(raw(), **deployment_status(1))
    plan = decide(observation(raw(ONE, generation=2), before, engine(raw()), resource_claims=False))
    assert (plan.writes, plan.deletions) == ((), ())


def test_without_the_api_models_that_want_no_claims_are_not_concerned() -> None:
    assert decide(observation(raw(), resource_claims=False)).writes


@pytest.mark.parametrize("after", [(OTHER,), (TEMPLATE,), ()], ids=["other devices", "template", "plug-in"])
def test_a_template_stays_while_engines_or_their_deployment_are_of_it_and_goes_after_them(
    after: tuple[Claim, ...],
) -> None:
    before, wanted = raw(ONE), raw(*after, generation=2)
    old = template_of(before)
    left_over = {old: live(next(one for one in desired(before) if key_of(one) == old))}

    def doomed(children: dict[ObjectKey, dict[str, Any]], *pods: dict[str, Any]) -> list[ObjectKey]:
        plan = decide(observation(wanted, {**children, **left_over}, *pods))
        return [deletion.live.key for deletion in plan.deletions if deletion.live.kind == KIND]

    replaced = as_desired(wanted, **deployment_status(1))
    assert doomed(as_desired(before, **deployment_status(1)), engine(before)) == [], "the Deployment makes pods of it"
    assert doomed(replaced, engine(before)) == [], "an engine that is evicted is made anew of it"
    assert doomed(replaced, engine(wanted)) == [old]


@pytest.mark.parametrize(
    ("claims", "shared"),
    [((ONE,), False), ((TEMPLATE,), False), ((SHARED,), True), ((ONE, {**SHARED, "name": "nic"}), True)],
)
def test_engines_share_devices_where_a_claim_is_the_users_own(claims: tuple[Claim, ...], *, shared: bool) -> None:
    template = as_desired(raw(*claims))[ObjectKey("Deployment", "qwen")]["spec"]["template"]
    assert shares_devices(template) is shared


def test_engines_that_share_a_claim_are_replaced_in_place() -> None:
    def strategy(claim: Claim) -> dict[str, Any]:
        deployment = as_desired(raw(claim))[ObjectKey("Deployment", "qwen")]
        found: dict[str, Any] = deployment["spec"]["strategy"]
        return found

    assert strategy(SHARED) != strategy(TEMPLATE)
    assert strategy(SHARED)["rollingUpdate"]["maxSurge"] == 0


def test_two_claims_for_the_same_devices_share_a_template() -> None:
    second = {**ONE, "name": "second"}
    assert template_of(raw(ONE, second)) == template_of(raw(ONE))
