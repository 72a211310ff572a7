"""Known failures of an engine: out of its manager's words and its termination message, and without a secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.resources import pod
from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.diagnosis.engine_status import EngineStatus
from vllm_operator.diagnosis.engines import report
from vllm_operator.diagnosis.known import Recognized, diagnosed, diagnosed_end, marked, recognized
from vllm_operator.manager.matching import MARK

ENDED = "the engine ended with exit code 1, which nobody had asked for"
NO_CACHE = "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"
WRAPPER = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
TOO_LONG = (
    "User-specified max_model_len (999999) is greater than the derived max_model_len (max_position_embeddings=2048"
)
ADVICE = "lower spec.engine.maxModelLen to 2048, or leave it out"


def mark(name: str, **groups: Any) -> str:
    """The last line of a manager's last words."""
    return f"{MARK}{json.dumps({'id': name, 'groups': groups})}"


def ended(*lines: str, reason: str = "Error", code: int = 1) -> dict[str, Any]:
    """How kubelet reports the end of an engine's container."""
    return {"exitCode": code, "reason": reason, "message": "\n".join(lines)}


@pytest.mark.parametrize(
    ("terminated", "name"),
    [
        (ended(ENDED, "Traceback", NO_CACHE, mark("NoKvCache")), "NoKvCache"),
        (ended(ENDED, "Traceback", NO_CACHE), "NoKvCache"),
        (ended(NO_CACHE, WRAPPER), "NoKvCache"),
        (ended(WRAPPER), "EngineDied"),
        (ended(ENDED, NO_CACHE, mark("OfALaterVersion", number="3")), "NoKvCache"),
        (ended(ENDED, NO_CACHE, mark("KvCacheTooSmall")), "NoKvCache"),
        (ended(ENDED, NO_CACHE, f"{MARK}{{"), "NoKvCache"),
        (ended(ENDED, "Worker proc A died unexpectedly (exit code: -9)", mark("WorkerKilled")), "WorkerKilled"),
        (
            ended(
                "the kernel killed 1 of this container's processes for memory (cgroup oom_kill): the engine ended",
                "Worker proc A died unexpectedly (exit code: -9)",
                mark("WorkerKilled"),
            ),
            "HostMemoryLimit",
        ),
        (ended("", reason="OOMKilled", code=137), "HostMemoryLimit"),
        (
            ended("ended by its manager: did not complete a prompt within its startup budget of 60 s: x"),
            "StartupBudget",
        ),
        (
            ended(
                "ended by its manager: did not complete a prompt within its startup budget of 60 s: x",
                "OSError: We couldn't connect to 'https://huggingface.co' to load the files",
                mark("HubUnreachable", endpoint="https://huggingface.co"),
            ),
            "HubUnreachable",
        ),
    ],
)
def test_the_failure_by_which_a_container_ended_is_known(terminated: dict[str, Any], name: str) -> None:
    found = diagnosed_end(terminated)
    assert found is not None
    assert found.explanation.id == name


@pytest.mark.parametrize(
    "terminated", [{}, ended(), ended(ENDED), ended("the end was asked for", code=0), ended(ENDED, "KeyError: 'x'")]
)
def test_what_is_not_known_is_not_told_as_something_else(terminated: dict[str, Any]) -> None:
    assert diagnosed_end(terminated) is None


def test_the_line_that_shows_a_failure_is_its_excerpt() -> None:
    found = diagnosed_end(ended(ENDED, "Traceback", f"ValueError: {TOO_LONG}", mark("MaxModelLen", asked="999999")))
    assert found is not None
    assert found.excerpt.startswith("ValueError: User-specified max_model_len")


def test_a_failing_engine_is_told_with_cause_field_and_value_in_place_of_a_traceback() -> None:
    message = "\n".join((ENDED, f"ValueError: {TOO_LONG}", mark("MaxModelLen", asked="999999", derived="2048")))
    state = {"terminated": {"exitCode": 1, "reason": "Error", "message": message}}
    failing = pod(container={"started": False, "state": state, "restartCount": 3})
    failing["spec"] = {"containers": [{"name": "vllm", "ports": [{"name": "gate", "containerPort": 8480}]}]}
    told = report(failing)
    assert told.state is EngineState.FAILING
    assert told.sentence == (
        f"{ENDED} (3 restarts): spec.engine.maxModelLen is 999999, and the model was made for 2048 tokens: {ADVICE}"
    )
    assert told.diagnosis is not None
    explanation = told.diagnosis.explanation
    assert (explanation.field, explanation.value) == ("spec.engine.maxModelLen", "2048")


def test_an_engine_that_refuses_chats_for_want_of_a_template_is_told_what_to_do() -> None:
    """Its manager has the answer of the server, and nothing in the log says more."""
    refused = EngineStatus(
        "starting",
        "Failing",
        "/v1/chat/completions: HTTP 400: As of transformers v4.44, default chat template is no longer allowed, so you",
    )
    told = report(
        pod(container={"started": False, "state": {"running": {"startedAt": "2026-11-22T10:00:00Z"}}}), refused
    )
    assert told.diagnosis is not None
    assert told.diagnosis.explanation.id == "NoChatTemplate"
    assert "set spec.model.chatTemplate" in told.sentence


def test_an_excerpt_of_which_its_manager_makes_nothing_explains_no_engine_that_hangs() -> None:
    """It may be of long ago, and was survived."""
    hangs = EngineStatus("withdrawn", "Stalled", "no step with requests in flight", excerpt=(NO_CACHE,))
    state = {"running": {"startedAt": "2026-11-22T10:00:00Z"}}
    assert report(pod(container={"started": True, "state": state}), hangs).diagnosis is None
    recent = EngineStatus("withdrawn", "Stalled", "no step", recognized=Recognized("NoKvCache"), excerpt=(NO_CACHE,))
    told = report(pod(container={"started": True, "state": state}), recent).diagnosis
    assert told is not None
    assert told.excerpt == NO_CACHE


def test_an_engine_that_serves_has_no_diagnosis_whatever_it_went_through() -> None:
    state = {"running": {"startedAt": "2026-11-22T10:00:00Z"}}
    last = {"terminated": {"exitCode": 1, "reason": "Error", "message": NO_CACHE}}
    assert report(pod(ready=True, container={"started": True, "state": state, "lastState": last})).diagnosis is None


@pytest.mark.parametrize("document", [None, [], "A", {"id": 5}, {"groups": {}}, 7])
def test_what_is_no_diagnosis_is_passed_over(document: object) -> None:
    assert recognized(document) is None


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none()), max_size=40), st.text())
def test_what_a_manager_says_is_bounded(groups: dict[str, Any], name: str) -> None:
    found = recognized({"id": name, "groups": groups})
    assert found is not None
    assert len(found.id) <= 64
    assert len(found.groups) <= 16
    assert all(len(value) <= 300 for _, value in found.groups)
    diagnosed(found, [])


def test_only_the_last_line_can_be_a_managers_mark() -> None:
    assert marked([mark("A"), "another"]) is None
    assert marked([]) is None
    assert marked(["x", mark("A", b="c")]) == Recognized("A", (("b", "c"),))


SECRET = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=16, max_size=40)
PLANTED = (
    "OSError: [Errno 28] No space left on device: 'https://user:{}@host/m'",
    "vllm serve: error: unrecognized arguments: --api-key {}",
    "OSError: We couldn't connect to 'https://x:{}@hub.example.com' to load the files",
    "403 Forbidden: token hf_{} may not read it",
    "403 Forbidden: Authorization: Bearer {}",
    "NCCL error: api_key={}",
    "ValueError: Invalid repository ID or local directory specified: 'https://hub/m?token={}'.",
)


@given(SECRET, st.sampled_from(PLANTED), st.booleans())
def test_no_secret_is_in_what_is_told_of_a_failure(secret: str, place: str, with_mark: bool) -> None:  # noqa: FBT001
    """Whether the manager took it out or not: one of an earlier version may have left it in."""
    line = place.format(secret)
    lines = [line, mark("HubForbidden", why=line), ENDED] if with_mark else [ENDED, line]
    found = diagnosed_end(ended(*(lines[::-1] if with_mark else lines)))
    told = report(pod(container={"started": False, "state": {"terminated": ended(ENDED, line)}}))
    whole = f"{found and found.sentence}{found and found.excerpt}{found and found.explanation.value}{told.sentence}"
    assert secret not in whole
