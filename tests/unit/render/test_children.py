"""What is remembered of the children of a model."""

from __future__ import annotations

import copy
from dataclasses import replace

from tests.support.resources import resource
from vllm_operator.api.resource import parse_resource
from vllm_operator.render.children import children, remembered_children
from vllm_operator.render.context import NO_CLUSTER


def test_a_model_is_rendered_once_as_long_as_neither_it_nor_the_cluster_is_another() -> None:
    model = parse_resource(resource())
    first = remembered_children(model, NO_CLUSTER)
    assert first == children(model, NO_CLUSTER)
    assert remembered_children(parse_resource(resource()), NO_CLUSTER) is first


def test_another_cluster_another_spec_and_another_resource_of_the_name_are_rendered_anew() -> None:
    raw = resource()
    model = parse_resource(raw)
    remembered_children(model, NO_CLUSTER)
    keyed = replace(NO_CLUSTER, api_key="another key")
    assert remembered_children(model, keyed) == children(model, keyed) != children(model, NO_CLUSTER)

    edited = copy.deepcopy(raw)
    edited["spec"]["replicas"] = 7
    for generation in (raw["metadata"]["generation"], raw["metadata"]["generation"] + 1):
        edited["metadata"]["generation"] = generation
        again = parse_resource(edited)
        assert remembered_children(again, NO_CLUSTER) == children(again, NO_CLUSTER) != children(model, NO_CLUSTER)

    other = copy.deepcopy(raw)
    other["metadata"]["uid"] = "another"
    new = parse_resource(other)
    assert remembered_children(new, NO_CLUSTER) == children(new, NO_CLUSTER) != children(model, NO_CLUSTER)
