"""Known causes outside of the engine: words of schedulers, kubelets and container runtimes become cause and advice."""

from __future__ import annotations

from typing import Any, Final, get_args

import pytest

from tests.support.resources import pod
from vllm_operator.api.crd import crd
from vllm_operator.diagnosis.cause import EngineState, Lookup
from vllm_operator.diagnosis.engines import needed_lookup, report
from vllm_operator.diagnosis.events import KubeletMessage
from vllm_operator.diagnosis.known import Recognized
from vllm_operator.diagnosis.outside import (
    IMAGE,
    SCHEDULING,
    VOLUME,
    OutsideCause,
    Topic,
    diagnose,
    explained_example,
    outside_causes,
    recognize,
)
from vllm_operator.diagnosis.signature_faults import faults
from vllm_operator.diagnosis.signatures import LANGUAGES, signatures

SPEC: Final[dict[str, Any]] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
SCHEDULED = {"type": "PodScheduled", "status": "True"}


def samples() -> list[tuple[str, Topic, str]]:
    return [(one.id, topic, sample) for one in outside_causes() for topic in one.topics for sample in one.samples]


@pytest.mark.parametrize("topic", get_args(Topic))
def test_the_causes_of_each_topic_have_no_faults(topic: Topic) -> None:
    assert faults(one for one in outside_causes() if topic in one.topics) == []


def test_no_id_means_two_things() -> None:
    ids = [one.id for one in (*outside_causes(), *signatures())]
    assert sorted(ids) == sorted(set(ids))


@pytest.mark.parametrize(("name", "topic", "sample"), samples(), ids=lambda value: str(value)[:40])
def test_the_words_that_were_really_written_are_told_as_cause_and_advice_in_each_language(
    name: str, topic: Topic, sample: str
) -> None:
    for language in LANGUAGES:
        told = diagnose(topic, sample, language=language)
        assert told is not None
        assert told.explanation.id == name
        assert told.explanation.cause
        assert told.explanation.field in told.explanation.advice
        assert "{" not in told.explanation.sentence.replace("taint {", "")
        assert "; " not in told.explanation.sentence


@pytest.mark.parametrize("one", outside_causes(), ids=lambda one: one.id)
def test_each_cause_has_words_or_an_example_that_its_texts_need_no_more_than(one: OutsideCause) -> None:
    assert bool(one.samples) >= bool(one.patterns)
    for language in LANGUAGES:
        told = explained_example(one, language)
        assert told is not None
        assert told.field in told.advice
        assert "; " not in told.sentence


@pytest.mark.parametrize("one", outside_causes(), ids=lambda one: one.id)
def test_the_field_to_change_is_one_of_the_resource(one: OutsideCause) -> None:
    node = SPEC
    for name in (one.field or "spec").split(".")[1:]:
        node = node.get("properties", {}).get(name) or {}
        assert node, one.field


def test_the_same_words_mean_another_thing_of_another_topic() -> None:
    full = "write /var/lib/containerd/x: no space left on device"
    assert recognize(IMAGE, full)
    assert recognize(VOLUME, full) is None


def test_what_was_seen_in_the_cluster_counts_before_the_words_and_words_where_it_cannot_be_told() -> None:
    words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    seen = Recognized("NodeTooSmall", (("most", "4"), ("resource", "nvidia.com/gpu"), ("wanted", "8")))
    told = diagnose(SCHEDULING, words, seen=seen)
    assert told is not None
    assert (told.explanation.id, told.explanation.value, told.excerpt) == ("NodeTooSmall", "4", words)
    for odd in (Recognized("OfALaterVersion"), Recognized("NodeTooSmall")):
        fallback = diagnose(SCHEDULING, words, seen=odd)
        assert fallback is not None
        assert fallback.explanation.id == "DevicesTaken"


def waiting(reason: str, message: str, **more: Any) -> dict[str, Any]:
    """A pod whose engine waits for this reason."""
    return pod(
        container={"state": {"waiting": {"reason": reason, "message": message}}}, conditions=(SCHEDULED,), **more
    )


HUB: Final[dict[str, Any]] = {"model": {"source": "a/b", "tokenSecret": {"name": "hub", "key": "token"}}}
ENV: Final[dict[str, Any]] = {
    "engine": {"env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "cloud", "key": "id"}}}]}
}


@pytest.mark.parametrize(
    ("reason", "message", "spec", "cause_id", "field", "words"),
    [
        (
            "CreateContainerConfigError",
            'secret "hub" not found',
            HUB,
            "SecretMissing",
            "spec.model.tokenSecret",
            "spec.model.tokenSecret names Secret hub, which does not exist in this namespace: create the Secret here",
        ),
        (
            "CreateContainerConfigError",
            "couldn't find key id in Secret team/cloud",
            ENV,
            "SecretKeyMissing",
            "spec.engine.env[KEY].valueFrom.secretKeyRef",
            "Secret cloud, which spec.engine.env[KEY].valueFrom.secretKeyRef names, has no key id",
        ),
        (
            "CreateContainerConfigError",
            'configmap "nowhere" not found',
            HUB,
            "ConfigMapMissing",
            "",
            "the pod names ConfigMap nowhere, which does not exist in this namespace",
        ),
        (
            "ErrImagePull",
            "failed to resolve reference: docker.io/vllm/vllm-openai:v0.99: not found",
            HUB,
            "ImageNotFound",
            "spec.engine.image",
            "the registry has no docker.io/vllm/vllm-openai:v0.99: correct the name and tag in spec.engine.image",
        ),
        (
            "ImagePullBackOff",
            'Back-off pulling image "ghcr.io/team/app:1": ErrImagePull: denied: denied',
            HUB,
            "ImageForbidden",
            "spec.pod.imagePullSecrets",
            "the registry denies the image to the node",
        ),
        (
            "InvalidImageName",
            'couldn\'t parse image name "A:B": invalid reference format: repository name must be lowercase',
            HUB,
            "ImageName",
            "spec.engine.image",
            "the image's name is none: correct spec.engine.image",
        ),
    ],
)
def test_what_kubelet_says_of_a_container_is_told_with_the_field_that_names_it(  # noqa: PLR0917 # cases
    reason: str, message: str, spec: dict[str, Any], cause_id: str, field: str, words: str
) -> None:
    told = report(waiting(reason, message), model_spec=spec)
    assert told.state is EngineState.FAILING
    assert words in told.sentence
    assert told.diagnosis is not None
    assert (told.diagnosis.explanation.id, told.diagnosis.explanation.field) == (cause_id, field)


def test_an_image_of_a_sidecar_is_told_by_the_field_of_the_sidecar() -> None:
    status = {"name": "mesh", "state": {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}}
    told = report({**pod(initContainerStatuses=[status]), "spec": {}})
    assert "spec.pod.initContainers[mesh].image" in told.sentence
    beside = {"name": "vllm", "state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}, "restartCount": 0}
    told = report(pod(containerStatuses=[beside, status]))
    assert "spec.pod.sidecars[mesh].image" in told.sentence


def test_an_older_kubelet_that_waits_for_the_next_pull_is_understood_by_its_events() -> None:
    """They name the cause only while a pull has just failed; its Event of reason Failed stays."""
    waits = waiting("ImagePullBackOff", 'Back-off pulling image "vllm:none"')
    needed = needed_lookup(waits)
    assert needed is not None
    assert needed.kind is Lookup.EVENTS
    cause = "rpc error: code = NotFound desc = docker.io/library/vllm:none: not found"
    told = report(waits, KubeletMessage(f'Failed to pull image "vllm:none": {cause}'))
    assert told.sentence.startswith(f"cannot start: ErrImagePull: {cause}: the registry has no docker.io/library/vllm")
    assert report(waiting("ErrImagePull", cause)).sentence == told.sentence, "and it does not change with every try"
    newer = waiting("ImagePullBackOff", f'Back-off pulling image "vllm:none": ErrImagePull: {cause}')
    assert report(newer).sentence == told.sentence
    assert needed_lookup(newer) is None


def test_a_pull_that_is_denied_names_the_secret_that_could_not_be_read() -> None:
    denied = "failed to resolve reference: pull access denied, repository does not exist or may require authorization"
    waits = waiting("ImagePullBackOff", f'Back-off pulling image "team/app:1": ErrImagePull: {denied}')
    needed = needed_lookup(waits)
    assert needed is not None
    assert needed.kind is Lookup.EVENTS
    said = KubeletMessage(f'Failed to pull image "team/app:1": {denied}', "regcred")
    told = report(waits, said)
    assert told.diagnosis is not None
    assert told.diagnosis.explanation.id == "PullSecretMissing"
    assert "and Secret regcred, which is to give it rights, cannot be read in this namespace" in told.sentence
    other = waiting("ImagePullBackOff", 'Back-off pulling image "team/app:1": ErrImagePull: a/b: not found')
    assert "regcred" not in report(other, said).sentence


@pytest.mark.parametrize(
    ("reason", "message", "words"),
    [
        ("Evicted", "The node was low on resource: memory. Threshold", "ask for as much memory as the engine uses"),
        ("UnexpectedAdmissionError", "Allocate failed due to no healthy devices present, which", "no device for it"),
        (
            "OutOfnvidia.com/gpu",
            "Pod was rejected: Node didn't have enough resource: nvidia.com/gpu, r",
            "(nvidia.com/gpu)",
        ),
        ("Terminated", "Pod was terminated in response to imminent node shutdown.", "another engine takes its place"),
    ],
)
def test_a_pod_that_is_over_is_told_with_what_to_do(reason: str, message: str, words: str) -> None:
    told = report(pod(phase="Failed", reason=reason, message=message))
    assert told.sentence.startswith(f"has ended: {reason}: {message.rstrip('. ')}: ")
    assert words in told.sentence


def test_a_volume_that_cannot_be_mounted_is_told_with_what_is_missing() -> None:
    spec = {"pod": {"volumes": [{"name": "token", "secret": {"secretName": "hub-token"}}]}}
    creating = pod(container={"state": {"waiting": {"reason": "ContainerCreating"}}}, conditions=(SCHEDULED,))
    words = 'MountVolume.SetUp failed for volume "token" : secret "hub-token" not found'
    told = report(creating, KubeletMessage(words), model_spec=spec)
    assert told.diagnosis is not None
    assert told.diagnosis.explanation.field == "spec.pod.volumes[token].secret"
    assert told.sentence.endswith(
        f"{words}: spec.pod.volumes[token].secret names Secret hub-token, which does not exist in this namespace: "
        "create the Secret here, or correct its name"
    )


def test_a_claim_that_does_not_exist_is_told_by_the_field_that_names_it_and_nothing_is_looked_up() -> None:
    told = {"type": "PodScheduled", "status": "False", "lastTransitionTime": "2026-11-22T11:00:00Z"}
    words = '0/1 nodes are available: persistentvolumeclaim "models" not found. preemption: not helpful.'
    found = pod(conditions=({**told, "message": words},), containerStatuses=[])
    assert needed_lookup(found) is None
    spec = {"model": {"source": "pvc://models/llama"}}
    assert "spec.model.source names claim models, which does not exist" in report(found, model_spec=spec).sentence


def test_words_that_nobody_knows_are_told_as_they_are() -> None:
    told = report(waiting("CreateContainerError", "something of a later version"))
    assert told.diagnosis is None
    assert told.sentence == "cannot start: CreateContainerError: something of a later version"
