"""What one engine's pod reports, as its first obstacle and a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import pod
from vllm_operator.api.conditions import Reason
from vllm_operator.planner.pods import EngineState, report, reports, summary
from vllm_operator.planner.signals import SIGNALS
from vllm_operator.planner.words import Topic, Words

CRASH_TOO = ", which is a crash too: vLLM exits so when its engine has died"
STARTED = "2026-11-22T10:00:00Z"
SINCE = "since 2026-11-22T11:00:00Z"


def terminated(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    """State of a container that has ended."""
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """State of a container that waits."""
    return {"waiting": {"reason": reason, "message": message}}


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
}
RUNNING = {"running": {"startedAt": STARTED}}
WORKER_LOG = """
(EngineCore pid=4330) ERROR 11-25 23:40:13 [multiproc_executor.py:315] Worker proc VllmWorker-0 died unexpectedly (exit code: -4), shutting down executor.
(EngineCore pid=4330) ERROR 11-25 23:40:13 [core.py:1512] RuntimeError: Executor failed.
(APIServer pid=4286) INFO 11-25 23:40:14 [core_client.py:777] [shutdown] MPClient: complete
"""  # noqa: E501 # as vLLM 0.32.0 writes it
KILLED_WORKER = f"worker process VllmWorker-0 was ended by {SIGNALS[4]}: {SIGNALS[4].hint}"
LOG = "loading\nValueError: out of memory\n\n"

CASES: list[tuple[str, dict[str, Any], EngineState, str]] = [
    ("ready", pod(ready=True, container={"started": True, "state": RUNNING}), EngineState.SERVING, ""),
    (
        "loading",
        pod(container={"started": False, "state": RUNNING}),
        EngineState.STARTING,
        "loads its model since 2026-11-22T11:00:00Z",
    ),
    (
        "creating",
        pod(container={"state": waiting("ContainerCreating")}),
        EngineState.STARTING,
        "loads its model since 2026-11-22T11:00:00Z",
    ),
    (
        "nothing reported yet",
        pod(containerStatuses=[], conditions=()),
        EngineState.STARTING,
        "loads its model since 2026-11-22T11:00:00Z",
    ),
    (
        "withdrawn",
        pod(container={"started": True, "state": RUNNING}),
        EngineState.WITHDRAWN,
        "served before, and takes no traffic since 2026-11-22T11:00:00Z",
    ),
    (
        "withdrawn, and crashed long before",
        pod(container={"started": True, "state": RUNNING, "lastState": terminated(137), "restartCount": 1}),
        EngineState.WITHDRAWN,
        "served before, and takes no traffic since 2026-11-22T11:00:00Z",
    ),
    (
        "unschedulable",
        pod(conditions=(UNSCHEDULABLE,), containerStatuses=[]),
        EngineState.FAILING,
        "cannot be scheduled: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    ),
    (
        "image pull",
        pod(container={"state": waiting("ImagePullBackOff", 'Back-off pulling image "vllm:none"')}),
        EngineState.FAILING,
        'cannot start: ImagePullBackOff: Back-off pulling image "vllm:none"',
    ),
    (
        "crash loop",
        pod(
            container={"state": waiting("CrashLoopBackOff"), "lastState": terminated(1, LOG), "restartCount": 4},
        ),
        EngineState.FAILING,
        "ended with exit code 1 (Error, 4 restarts): ValueError: out of memory",
    ),
    (
        "exit code 0",
        pod(container={"state": terminated(0, "EngineDeadError", "Completed"), "restartCount": 2}),
        EngineState.FAILING,
        f"ended with exit code 0 (Completed, 2 restarts){CRASH_TOO}: EngineDeadError",
    ),
    (
        "ended by its gate",
        pod(container={"state": terminated(0, "ended by its gate: no progress for 66 s"), "restartCount": 1}),
        EngineState.FAILING,
        "ended by its gate: no progress for 66 s (1 restarts)",
    ),
    (
        "exit code 0, of which kubelet keeps no words",
        pod(container={"state": terminated(0, "", "Completed"), "restartCount": 2}),
        EngineState.FAILING,
        f"ended with exit code 0 (Completed, 2 restarts){CRASH_TOO}; kubectl logs --previous has the cause",
    ),
    (
        "killed without a word",
        pod(container={"state": terminated(137, "", "OOMKilled"), "restartCount": 0}),
        EngineState.FAILING,
        f"ended with exit code 137, SIGKILL (killed) (OOMKilled, 0 restarts), {SIGNALS[9].hint}",
    ),
    (
        "a native crash after some words",
        pod(container={"state": terminated(139, LOG), "restartCount": 1}),
        EngineState.FAILING,
        "ended with exit code 139, SIGSEGV (segmentation fault) (Error, 1 restarts): ValueError: out of memory",
    ),
    (
        "a worker that a signal ended",
        pod(container={"state": terminated(1, WORKER_LOG), "restartCount": 1}),
        EngineState.FAILING,
        f"ended with exit code 1 (Error, 1 restarts): {KILLED_WORKER}",
    ),
    (
        "loading again after a crash",
        pod(container={"started": False, "state": RUNNING, "lastState": terminated(1, LOG), "restartCount": 1}),
        EngineState.FAILING,
        "ended with exit code 1 (Error, 1 restarts): ValueError: out of memory",
    ),
    (
        "evicted",
        pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
        EngineState.FAILING,
        "failed: Evicted: The node was low on resource: memory.",
    ),
]


@pytest.mark.parametrize(("found", "state", "sentence"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_pod_is_told_by_the_first_thing_in_its_way(found: dict[str, Any], state: EngineState, sentence: str) -> None:
    told = report(found)
    assert (told.pod, told.state, told.sentence) == ("qwen-1", state, sentence)


def test_only_the_engines_container_counts() -> None:
    found = pod(containerStatuses=[{"name": "mesh", "state": terminated(1)}, {"name": "vllm", "state": RUNNING}])
    assert report(found).state is EngineState.STARTING


def test_pods_on_their_way_out_are_not_reported_and_the_others_are_sorted() -> None:
    leaving = pod("qwen-0")
    leaving["metadata"]["deletionTimestamp"] = STARTED
    assert [told.pod for told in reports([pod("qwen-2"), leaving, pod("qwen-1")])] == ["qwen-1", "qwen-2"]


def test_a_long_message_is_cut_and_flattened() -> None:
    found = pod(container={"state": waiting("CreateContainerError", "a  b\n" + "x" * 1000)})
    sentence = report(found).sentence
    assert sentence.startswith("cannot start: CreateContainerError: a b xxx")
    assert sentence.endswith("x...")
    assert len(sentence) < 350


def test_a_few_engines_stand_for_many() -> None:
    told = [report(pod(f"qwen-{number}", container={"state": waiting("ErrImagePull")})) for number in range(1, 6)]
    text = summary(told, EngineState.FAILING)
    assert text.count("ErrImagePull") == 3
    assert text.endswith("; and 2 more")
    assert summary(told, EngineState.SERVING) == ""


LOADING = pod(container={"started": False, "state": RUNNING})
WITHDRAWN = pod(container={"started": True, "state": RUNNING})
CREATING = pod(container={"state": waiting("ContainerCreating")})
ADVICE = "the image needs python3 on its path, or spec.gates.probe a command that it has"
NO_PYTHON = 'exec: "python3": executable file not found in $PATH'


@pytest.mark.parametrize(
    ("found", "words", "state", "reason", "sentence"),
    [
        (
            LOADING,
            Words(Topic.STARTUP, "nothing listens on port 8000 yet: the model is still loading"),
            EngineState.STARTING,
            Reason.ENGINES_STARTING,
            f"loads its model {SINCE}: nothing listens on port 8000 yet: the model is still loading",
        ),
        (
            LOADING,
            Words(Topic.STARTUP, "serves other, not qwen"),
            EngineState.FAILING,
            Reason.WRONG_MODEL,
            f"is not admitted {SINCE}: serves other, not qwen",
        ),
        (
            LOADING,
            Words(Topic.STARTUP, "/v1/models: 401 Unauthorized: VLLM_API_KEY of this container is not a key"),
            EngineState.FAILING,
            Reason.UNAUTHORIZED,
            f"is not admitted {SINCE}: /v1/models: 401 Unauthorized: VLLM_API_KEY of this container is not a key",
        ),
        (
            LOADING,
            Words(Topic.STARTUP, "/v1/completions: HTTP 500: no template"),
            EngineState.FAILING,
            Reason.COMPLETIONS_FAIL,
            f"is not admitted {SINCE}: /v1/completions: HTTP 500: no template",
        ),
        (
            LOADING,
            Words(Topic.STARTUP, "/v1/completions: a completion came back empty"),
            EngineState.FAILING,
            Reason.COMPLETIONS_FAIL,
            f"is not admitted {SINCE}: /v1/completions: a completion came back empty",
        ),
        (
            LOADING,
            Words(Topic.STARTUP, "/v1/completions does not answer within 9 s"),
            EngineState.STARTING,
            Reason.ENGINES_STARTING,
            f"loads its model {SINCE}: /v1/completions does not answer within 9 s",
        ),
        (
            LOADING,
            Words(Topic.ERRORED, NO_PYTHON),
            EngineState.FAILING,
            Reason.GATE_CANNOT_RUN,
            f"is not admitted {SINCE}: its gate cannot run: {NO_PYTHON}; {ADVICE}",
        ),
        (
            CREATING,
            Words(Topic.UNMOUNTED, 'configmap "vllm-gates" not found'),
            EngineState.FAILING,
            Reason.ENGINES_FAILING,
            f'cannot start {SINCE}: configmap "vllm-gates" not found',
        ),
        (
            WITHDRAWN,
            Words(Topic.READINESS, "no progress with requests in flight (engine 0)"),
            EngineState.WITHDRAWN,
            Reason.ENGINES_WITHDRAWN,
            f"served before, and takes no traffic {SINCE}: no progress with requests in flight (engine 0)",
        ),
        (
            WITHDRAWN,
            Words(Topic.STARTUP, "serves other, not qwen"),
            EngineState.WITHDRAWN,
            Reason.ENGINES_WITHDRAWN,
            f"served before, and takes no traffic {SINCE}",
        ),
    ],
)
def test_what_kubelet_says_of_the_gate_completes_the_sentence_and_names_the_reason_where_it_is_certain(
    found: dict[str, Any], words: Words, state: EngineState, reason: Reason, sentence: str
) -> None:
    told = report(found, words)
    assert (told.state, told.reason, told.sentence) == (state, reason, sentence)


def test_what_a_pod_says_itself_counts_more_than_what_kubelet_says_of_its_gate() -> None:
    told = report(pod(container={"state": terminated(1, LOG)}), Words(Topic.STARTUP, "serves other, not qwen"))
    assert "ended with exit code 1" in told.sentence
    assert told.reason is Reason.ENGINES_FAILING
