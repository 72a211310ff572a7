"""The story of a model: what it tells, and what it says to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import told_models as told
from tests.support.resources import NOW
from vllm_operator.cli.diagnose import text
from vllm_operator.cli.diagnose.story import Story, localized, patch_command, story_of
from vllm_operator.cli.status.sources import Sources
from vllm_operator.cli.status.view import DiagnosisView
from vllm_operator.diagnosis.signatures import LANGUAGES, explain, signatures, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.diagnosis.signatures import Language, Signature


def story(
    model: Mapping[str, Any], *pods: Mapping[str, Any], language: Language = "en", events: Any = (), **more: Any
) -> Story:
    """The story of a model whose pods can be read."""
    return story_of(
        Sources(model, NOW, more.pop("deployment", told.deployment()), tuple(pods), **more), events, language
    )


def test_a_known_failure_is_told_with_its_cause_its_field_and_the_command_that_mends_it() -> None:
    found = story(told.model(told.STALLED), told.crashed())
    assert found.verdict == "qwen in namespace team is stalled: somebody has to act"
    (remedy,) = found.remedies
    assert (remedy.id, remedy.field, remedy.value, remedy.engines) == (
        *("KvCacheTooSmall", "spec.engine.maxModelLen", "9392", ("qwen-1",)),
    )
    patch = '{"spec": {"engine": {"maxModelLen": 9392}}}'
    assert remedy.command == f"kubectl patch vllmmodel qwen --namespace team --type merge --patch '{patch}'"
    (engine,) = found.view.engines
    assert engine.sentence == "the engine ended with exit code 1, which nobody had asked for (3 restarts)"


def test_engines_that_fail_alike_have_one_remedy() -> None:
    found = story(told.model(told.STALLED), told.crashed("a"), told.crashed("b"), told.running("c"))
    assert [(one.id, one.engines) for one in found.remedies] == [
        *(("KvCacheTooSmall", ("a", "b")), ("EnginesStarting", ("c",))),
    ]


def test_a_failure_that_nobody_knows_has_the_advice_of_its_reason() -> None:
    found = story(told.model(told.STALLED), told.crashed(line="RuntimeError: never seen"))
    (remedy,) = found.remedies
    assert (remedy.id, remedy.engines, remedy.command) == ("EnginesFailing", ("qwen-1",), "")
    assert "kubectl logs POD" in remedy.text


def test_while_the_operator_is_down_the_pods_tell() -> None:
    found = story(told.model(told.READY, readyReplicas=1), told.crashed())
    assert found.seen_now.startswith("what the pods show now: EnginesFailing: 0 of 1 engines serve; qwen-1 ")
    assert [one.id for one in found.remedies] == ["KvCacheTooSmall"]
    never = story(told.model(), told.crashed())
    assert never.verdict == "no operator has told how qwen in namespace team is"
    assert [one.id for one in never.remedies] == ["KvCacheTooSmall", "NoStatus"]
    behind = told.model(told.READY, observedGeneration=0)
    assert [one.id for one in story(behind, told.serving(), deployment=told.deployment(ready=1)).remedies] == ["Behind"]


def test_a_model_that_serves_needs_nothing() -> None:
    found = story(told.model(told.READY, readyReplicas=1), told.serving(), deployment=told.deployment(ready=1))
    assert (found.remedies, found.seen_now) == ((), "")
    assert list(text.lines(found))[-1] == "  nothing"


def test_pods_that_the_api_server_refuses_are_told_while_no_operator_runs() -> None:
    deployment = told.deployment()
    deployment["status"]["conditions"] = [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: gpus"}
    ]
    found = story(told.model(), deployment=deployment)
    assert "exceeded quota: gpus" in found.seen_now
    assert "PodsRefused" in [one.id for one in found.remedies]


def test_what_was_not_read_is_told() -> None:
    found = story_of(Sources(told.model(told.STALLED), NOW, gaps=("the Deployment: no", "the pods: you may not")), ())
    shown = "\n".join(text.lines(found))
    assert "What is not known\n  the Deployment: no\n  the pods: you may not" in shown
    assert "there is no Deployment" not in shown
    assert "there is no Deployment" in "\n".join(text.lines(story(told.model(told.LOADING), deployment=None)))


def test_the_newest_events_are_told() -> None:
    events = [
        {"type": "Warning", "reason": f"R{minute}", "message": "m", "lastTimestamp": f"2026-11-22T11:0{minute}:00Z"}
        for minute in (9, 1, 2, 3, 4, 5, 6, 7)
    ]
    assert [one.reason for one in story(told.model(told.READY), events=events).events] == [
        *("R3", "R4", "R5", "R6", "R7", "R9")
    ]


def test_every_line_is_there_in_chinese_but_what_is_quoted() -> None:
    found = story(told.model(told.STALLED), told.crashed(), told.running("z"), language="zh-TW")
    shown = "\n".join(text.lines(found))
    for words in ("已停滯", "狀態條件", "一個 40960 tokens 的請求需要 5.62 GiB", "可改為 9392", "處理方式"):
        assert words in shown
    assert "one request of 40960" not in shown


@pytest.mark.parametrize("known", [one for one in signatures() if one.kind == "cause"], ids=lambda one: one.id)
def test_each_known_failure_has_its_chinese_from_the_words_of_its_engine_alone(known: Signature) -> None:
    match = table().match(known.samples[0])
    assert match is not None
    told_so = explain(match.id, match.groups)
    assert told_so is not None
    view = DiagnosisView("qwen-1", told_so.id, told_so.cause, told_so.advice, excerpt=known.samples[0])
    wanted = explain(match.id, match.groups, "zh-TW")
    assert wanted is not None
    assert localized(view, "zh-TW").advice == " ".join(wanted.advice.split())


def test_a_failure_of_another_version_of_the_operator_stays_as_it_was_told() -> None:
    unknown = DiagnosisView("qwen-1", "NotKnownHere", "it broke", "mend it")
    assert localized(unknown, "zh-TW") == unknown


@pytest.mark.parametrize(
    ("field", "value", "patch"),
    [
        ("spec.engine.maxModelLen", "9392", '{"spec": {"engine": {"maxModelLen": 9392}}}'),
        ("spec.engine.gpuMemoryUtilization", "0.39", '{"spec": {"engine": {"gpuMemoryUtilization": 0.39}}}'),
        ("spec.model.trustRemoteCode", "true", '{"spec": {"model": {"trustRemoteCode": true}}}'),
        ("spec.engine.dtype", "half", '{"spec": {"engine": {"dtype": "half"}}}'),
        ("spec.storage.sharedMemory", "8Gi", '{"spec": {"storage": {"sharedMemory": "8Gi"}}}'),
        ("spec.engine.env", "SSL_CERT_FILE=/ca.pem", ""),
        ("spec.parallelism.tensor", "many", ""),
        ("spec.engine.maxModelLen", "", ""),
        ("spec.no.such", "1", ""),
    ],
)
def test_the_command_gives_the_field_a_value_of_its_type(field: str, value: str, patch: str) -> None:
    command = patch_command("qwen", "", field, value)
    assert command == (f"kubectl patch vllmmodel qwen --type merge --patch '{patch}'" if patch else "")


SECRETS = st.from_regex(r"hf_[A-Za-z0-9]{20,40}", fullmatch=True) | st.from_regex(
    r"sk-[A-Za-z0-9]{20,40}", fullmatch=True
)


@given(secret=SECRETS, language=st.sampled_from(LANGUAGES))
def test_no_secret_is_ever_told(secret: str, language: Language) -> None:
    line = f"ValueError: cannot log in with {secret} at https://me:{secret}@hub"
    status = told.conditions(Ready=("False", "EnginesFailing", f"0 of 1 engines serve; token={secret}"))
    excerpt = {"engine": "z", "id": "X", "cause": secret, "advice": secret, "since": told.SINCE, "excerpt": secret}
    model = told.model(status, warnings=[f"{secret} is weak"], diagnosis=[excerpt], rollout={"reason": secret})
    events = [{"type": "Warning", "reason": "R", "message": f"pull with {secret}"}]
    pod = told.running("z")
    found = story(
        *(model, told.crashed(line=line), pod),
        language=language,
        events=events,
        gaps=(f"the claims: {secret}",),
        unread={pod["metadata"]["uid"]: secret},
    )
    assert secret not in "\n".join(text.lines(found))
    assert secret not in repr(text.as_data(found))
