"""What a named release makes: its own label and its own shared ConfigMaps, and else what the default one makes."""

from __future__ import annotations

import copy
from typing import Any

from tests.support.resources import model
from vllm_operator.api.names import DESIRED_HASH, MANAGER_CONFIG_MAP, OPERATOR_LABEL
from vllm_operator.render import manager
from vllm_operator.render.children import children
from vllm_operator.render.context import RenderContext
from vllm_operator.render.release import child_of, shared_of, template_of

CPU: dict[str, Any] = {"accelerator": {"profile": "cpu"}, "network": {"allowFrom": []}, "auth": {"generate": True}}


def made(release: str) -> list[dict[str, Any]]:
    """The children of a model that has them all."""
    return list(children(model(**CPU), RenderContext(release=release, api_key="secret")))


def without_release(child: dict[str, Any]) -> dict[str, Any]:
    """A child without what says whose it is."""
    found = copy.deepcopy(child)
    found["metadata"]["labels"].pop(OPERATOR_LABEL)
    del found["metadata"]["annotations"][DESIRED_HASH]
    return found


def test_the_default_release_makes_what_it_made_before_there_were_names() -> None:
    for child in made(""):
        assert OPERATOR_LABEL not in str(child)
        assert child_of("", child) == child


def test_each_child_of_a_named_release_carries_its_name_and_another_hash() -> None:
    for ours, others in zip(made("blue"), made(""), strict=True):
        assert ours["metadata"]["labels"][OPERATOR_LABEL] == "blue"
        assert ours["metadata"]["annotations"][DESIRED_HASH] != others["metadata"]["annotations"][DESIRED_HASH]
        if ours["kind"] in {"Service", "ConfigMap", "Secret", "ServiceAccount"}:
            plain = copy.deepcopy(others)
            del plain["metadata"]["annotations"][DESIRED_HASH]
            assert without_release(ours) == plain


def test_its_pods_carry_its_name_run_its_own_manager_and_are_selected_as_ever() -> None:
    deployment = next(child for child in made("blue") if child["kind"] == "Deployment")
    spec = deployment["spec"]
    assert spec["template"]["metadata"]["labels"][OPERATOR_LABEL] == "blue"
    assert OPERATOR_LABEL not in spec["selector"]["matchLabels"]
    mounted = [volume["configMap"]["name"] for volume in spec["template"]["spec"]["volumes"] if "configMap" in volume]
    assert mounted.count("blue-vllm-manager") == 2, "the manager, and what engines on CPU start with"
    assert MANAGER_CONFIG_MAP not in mounted


def test_its_own_pods_are_let_in_by_the_policies_of_its_models() -> None:
    policies = {
        release: next(child for child in made(release) if child["kind"] == "NetworkPolicy") for release in ("", "blue")
    }
    for release, name in (("", "vllm-operator"), ("blue", "blue-vllm-operator")):
        peers = policies[release]["spec"]["ingress"][0]["from"]
        assert {"matchLabels": {"app.kubernetes.io/name": name}} in [peer["podSelector"] for peer in peers]


def test_a_template_that_another_release_has_made_becomes_its_own() -> None:
    template = next(child for child in made("") if child["kind"] == "Deployment")["spec"]["template"]
    blue = template_of("blue", template)
    assert template_of("green", blue) == template_of("green", template)
    assert template_of("", blue) == template


def test_what_the_hash_of_a_secret_must_not_hold_is_not_in_that_of_a_named_release_either() -> None:
    one, other = (
        [
            child
            for child in children(model(**CPU), RenderContext(release="blue", api_key=key))
            if child["kind"] == "Secret"
        ]
        for key in ("weak", "weaker")
    )
    assert [child["metadata"]["annotations"] for child in one] == [child["metadata"]["annotations"] for child in other]
    assert one != other


def test_shared_config_maps_have_the_name_before_theirs() -> None:
    plain = manager.program("team")
    blue = shared_of("blue", plain)
    assert blue["metadata"]["name"] == blue["metadata"]["labels"]["app.kubernetes.io/name"] == "blue-vllm-manager"
    assert blue["metadata"]["labels"][OPERATOR_LABEL] == "blue"
    assert blue["data"] == plain["data"]
    assert shared_of("", plain) == plain
