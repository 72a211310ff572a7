"""Autoscalers of others are found by the namespace and by the model that they aim at."""

from __future__ import annotations

from vllm_operator.cluster.rivals import ForeignAutoscalers

WEB, QUEUE = "HorizontalPodAutoscaler web", "ScaledObject queue"


def test_a_model_sees_what_aims_at_it_and_nothing_of_other_models_and_namespaces() -> None:
    known = ForeignAutoscalers()
    known.replace(None, [("team", "qwen", QUEUE), ("team", "qwen", WEB), ("other", "qwen", WEB)])
    assert known.of("team", "qwen") == (WEB, QUEUE)
    assert known.of("other", "qwen") == (WEB,)
    assert known.of("team", "llama") == known.of("nowhere", "qwen") == ()


def test_a_list_of_one_namespace_leaves_the_others_and_one_of_all_replaces_everything() -> None:
    known = ForeignAutoscalers()
    known.replace("team", [("team", "qwen", WEB)])
    known.replace("other", [("other", "qwen", WEB)])
    known.replace("team", [])
    assert (known.of("team", "qwen"), known.of("other", "qwen")) == ((), (WEB,))
    known.replace(None, [("team", "qwen", QUEUE)])
    assert (known.of("team", "qwen"), known.of("other", "qwen")) == ((QUEUE,), ())
