"""What one engine's pod reports, as its first obstacle and a sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.resources import NOW, pod
from vllm_operator.api.conditions import Reason
from vllm_operator.diagnosis.cause import EngineState, Lookup
from vllm_operator.diagnosis.engine_status import EngineStatus, NoAnswer
from vllm_operator.diagnosis.engines import (
    NeededLookup,
    judged_again_at,
    manager_url,
    needed_lookup,
    report,
    reports,
    summary,
)
from vllm_operator.diagnosis.events import KubeletMessage
from vllm_operator.diagnosis.facts import pod_facts, unbound_claims
from vllm_operator.diagnosis.signals import SIGNALS

if TYPE_CHECKING:
    from vllm_operator.diagnosis.facts import Finding

CRASH_TOO = ", which is a crash too: vLLM exits so when its engine has died"
STARTED = "2026-11-22T10:00:00Z"
SINCE = "since 2026-11-22T11:00:00Z"
ANOTHER_NAME = (
    "the engine serves other, and clients ask for qwen: let spec.model.servedNames (of an adapter spec.lora.adapters) "
    "name what the engine serves, or take other names out of spec.pod.patch"
)


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
LOW_ON_MEMORY = (
    "The node was low on resource: memory: the node ran out of memory, and kubelet ended the pod that had taken more "
    "than it had asked for: ask for as much memory as the engine uses in spec.resources.requests, and keep downloads "
    "on a volume by spec.storage.cache"
)
NO_CONFIG_MAP = (
    "the pod names ConfigMap vllm-manager, which does not exist in this namespace: create it here, unless it is one "
    "that the operator makes, which comes by itself"
)
NO_GPU_FREE = (
    "no node that the pod may use has enough nvidia.com/gpu free: end or scale down what holds them, add a node, or "
    "lower spec.parallelism.tensor or spec.replicas"
)
RUNNING = {"running": {"startedAt": STARTED}}
WORKER_LOG = """
(EngineCore pid=4330) ERROR 11-25 23:40:13 [multiproc_executor.py:315] Worker proc VllmWorker-0 died unexpectedly (exit code: -4), shutting down executor.
(EngineCore pid=4330) ERROR 11-25 23:40:13 [core.py:1512] RuntimeError: Executor failed.
(APIServer pid=4286) INFO 11-25 23:40:14 [core_client.py:777] [shutdown] MPClient: complete
"""  # noqa: E501 # as vLLM 0.32.0 writes it
KILLED_WORKER = f"worker process VllmWorker-0 was ended by {SIGNALS[4]}: {SIGNALS[4].hint}"
FOR_MEMORY = "the kernel killed 1 of this container's processes for memory"
LOG = "loading\nValueError: out of memory\n\n"
NO_PYTHON = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    'unable to start container process: exec: "python3": executable file not found in $PATH'
)

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
        "is being set up since 2026-11-22T11:00:00Z: volumes, network, image",
    ),
    (
        "nothing reported yet",
        pod(containerStatuses=[], conditions=()),
        EngineState.STARTING,
        "waits for scheduler default-scheduler, which has said nothing of it",
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
        f"cannot be scheduled: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu: {NO_GPU_FREE}",
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
        "ended by its manager",
        pod(
            container={
                "state": terminated(1, "ended by its manager: no step with work\nloading\nTimeoutError: step\nbye"),
                "restartCount": 1,
            }
        ),
        EngineState.FAILING,
        "ended by its manager: no step with work (1 restarts): TimeoutError: step",
    ),
    (
        "ended by itself, as its manager tells",
        pod(container={"state": terminated(1, f"the engine ended with exit code 0\n{WORKER_LOG}"), "restartCount": 2}),
        EngineState.FAILING,
        f"the engine ended with exit code 0 (2 restarts): {KILLED_WORKER}",
    ),
    (
        "ended because the kernel wanted its memory",
        pod(
            container={
                "state": terminated(
                    137, "the kernel killed 1 of this container's processes for memory: b\nValueError: c"
                ),
                "restartCount": 1,
            }
        ),
        EngineState.FAILING,
        f"{FOR_MEMORY}: b (1 restarts): raise spec.resources.limits.memory, or let the engine use less",
    ),
    (
        "ended by a signal, as its manager tells",
        pod(container={"state": terminated(135, "the engine was ended by SIGBUS, which nobody had asked for\n")}),
        EngineState.FAILING,
        f"the engine was ended by SIGBUS, which nobody had asked for (0 restarts): {SIGNALS[7].hint}",
    ),
    (
        "evicted",
        pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
        EngineState.FAILING,
        f"has ended: Evicted: {LOW_ON_MEMORY}",
    ),
]


@pytest.mark.parametrize(("found", "state", "sentence"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_pod_is_told_by_the_first_thing_in_its_way(found: dict[str, Any], state: EngineState, sentence: str) -> None:
    told = report(found)
    assert (told.pod, told.state, told.sentence) == ("qwen-1", state, sentence)


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
UNREACHED = "its manager cannot be reached at 10.0.0.5:8480 (no answer within 2 s): a NetworkPolicy?"
CRASHED_AND_BACK = pod(
    container={"started": False, "state": RUNNING, "lastState": terminated(1, LOG), "restartCount": 1}
)
CRASH = "ended with exit code 1 (Error, 1 restarts): ValueError: out of memory"
PHASE_SINCE = "2026-11-22T11:02:03Z"


def loading(phase: str, detail: str = "", cause: str = "Loading", sentence: str = "", **more: Any) -> EngineStatus:
    """What a manager says of an engine that loads."""
    return EngineStatus("starting", cause, sentence, phase=phase, phase_detail=detail, phase_since=PHASE_SINCE, **more)


@pytest.mark.parametrize(
    ("found", "finding", "state", "reason", "sentence"),
    [
        (
            LOADING,
            loading("Downloading"),
            EngineState.STARTING,
            Reason.ENGINES_STARTING,
            f"downloads its model since {PHASE_SINCE}",
        ),
        (
            LOADING,
            loading("LoadingWeights", "3 of 8 shards"),
            EngineState.STARTING,
            Reason.ENGINES_STARTING,
            f"loads its weights (3 of 8 shards) since {PHASE_SINCE}",
        ),
        (
            LOADING,
            loading("OfALaterVersion"),
            EngineState.STARTING,
            Reason.ENGINES_STARTING,
            f"loads its model (OfALaterVersion) since {PHASE_SINCE}",
        ),
        (
            LOADING,
            loading("Ready", "", "Silent", "/v1/completions does not answer"),
            EngineState.STARTING,
            Reason.ENGINES_STARTING,
            f"waits for its first completion since {PHASE_SINCE}: /v1/completions does not answer",
        ),
        (
            LOADING,
            EngineStatus("serving", "Completed", "completed a prompt", ready=True, phase="Ready"),
            EngineState.STARTING,
            Reason.ENGINES_STARTING,
            "has completed a prompt, and kubelet has not let it in yet",
        ),
        (
            LOADING,
            EngineStatus("starting", "Loading", "nothing listens on port 8000"),
            EngineState.STARTING,
            Reason.ENGINES_STARTING,
            f"loads its model {SINCE}: nothing listens on port 8000",
        ),
        (
            LOADING,
            NoAnswer(UNREACHED),
            EngineState.STARTING,
            Reason.ENGINES_STARTING,
            f"loads its model {SINCE}; {UNREACHED}",
        ),
        (
            LOADING,
            loading("Ready", "", "WrongModel", "serves other, not qwen"),
            EngineState.FAILING,
            Reason.WRONG_MODEL,
            f"is not admitted {SINCE}: serves other, not qwen: {ANOTHER_NAME}",
        ),
        (
            LOADING,
            loading("Ready", "", "Unauthorized", "/v1/models: 401 Unauthorized"),
            EngineState.FAILING,
            Reason.UNAUTHORIZED,
            f"is not admitted {SINCE}: /v1/models: 401 Unauthorized",
        ),
        (
            LOADING,
            loading("Ready", "", "Failing", "/v1/completions: HTTP 500: no template"),
            EngineState.FAILING,
            Reason.COMPLETIONS_FAIL,
            f"is not admitted {SINCE}: /v1/completions: HTTP 500: no template",
        ),
        (
            LOADING,
            loading("Ready", "", "Empty", ""),
            EngineState.FAILING,
            Reason.COMPLETIONS_FAIL,
            f"is not admitted {SINCE}: Empty",
        ),
        (
            CREATING,
            KubeletMessage('configmap "vllm-manager" not found'),
            EngineState.FAILING,
            Reason.ENGINES_FAILING,
            f'cannot start {SINCE}: configmap "vllm-manager" not found: {NO_CONFIG_MAP}',
        ),
        (
            WITHDRAWN,
            EngineStatus("withdrawn", "Stalled", "no step with 8 requests in flight (engine 0)"),
            EngineState.WITHDRAWN,
            Reason.ENGINES_WITHDRAWN,
            f"served before, and takes no traffic {SINCE}: no step with 8 requests in flight (engine 0)",
        ),
        (
            WITHDRAWN,
            EngineStatus("serving", "Completed", "completed a prompt", ready=True),
            EngineState.WITHDRAWN,
            Reason.ENGINES_WITHDRAWN,
            f"served before, and takes no traffic {SINCE}",
        ),
        (
            WITHDRAWN,
            NoAnswer(UNREACHED),
            EngineState.WITHDRAWN,
            Reason.ENGINES_WITHDRAWN,
            f"served before, and takes no traffic {SINCE}; {UNREACHED}",
        ),
        (
            WITHDRAWN,
            EngineStatus("withdrawn", "Asleep", "the engine is asleep (level 1)"),
            EngineState.WITHDRAWN,
            Reason.ASLEEP,
            f"takes no traffic {SINCE}: the engine is asleep (level 1)",
        ),
        (
            WITHDRAWN,
            EngineStatus("withdrawn", "Paused"),
            EngineState.WITHDRAWN,
            Reason.PAUSED,
            f"takes no traffic {SINCE}: Paused",
        ),
        (
            WITHDRAWN,
            EngineStatus("withdrawn", "Scaling", "the engine changes its number of ranks"),
            EngineState.WITHDRAWN,
            Reason.SCALING,
            f"takes no traffic {SINCE}: the engine changes its number of ranks",
        ),
        (
            CRASHED_AND_BACK,
            loading("LoadingWeights", "3 of 8 shards"),
            EngineState.FAILING,
            Reason.ENGINES_FAILING,
            CRASH,  # as it was before it was started again, which is no new cause; the phase is reported beside it
        ),
    ],
)
def test_what_a_lookup_found_completes_the_sentence_and_names_the_reason_where_it_is_certain(
    found: dict[str, Any], finding: Finding, state: EngineState, reason: Reason, sentence: str
) -> None:
    told = report(found, finding)
    assert (told.state, told.reason, told.sentence) == (state, reason, sentence)


def test_what_a_pod_says_itself_counts_more_than_what_a_lookup_found() -> None:
    told = report(pod(container={"state": terminated(1, LOG)}), loading("Ready", "", "WrongModel", "serves other"))
    assert "ended with exit code 1" in told.sentence
    assert told.reason is Reason.ENGINES_FAILING


def test_phase_and_trouble_of_a_manager_are_reported_as_long_as_its_engine_is_not_ready() -> None:
    found = loading("Compiling", trouble="its judge ended: SyntaxError")
    told = report(LOADING, found)
    assert (told.phase, told.trouble) == ("Compiling", "its judge ended: SyntaxError")
    assert report(pod(ready=True), found).phase == ""
    assert report(LOADING).phase == ""
    assert report(CRASHED_AND_BACK, found).phase == "Compiling"


@pytest.mark.parametrize(
    "state",
    [
        {"state": terminated(128, NO_PYTHON, "StartError")},
        {"state": waiting("RunContainerError", NO_PYTHON)},
        {"state": waiting("CrashLoopBackOff"), "lastState": terminated(128, NO_PYTHON, "StartError")},
    ],
)
def test_an_image_without_python_is_told_as_that(state: dict[str, Any]) -> None:
    told = report(pod(container=state))
    assert (told.state, told.reason) == (EngineState.FAILING, Reason.GATE_CANNOT_RUN)
    assert told.sentence == (
        "cannot start: there is no python3: the engine's manager needs python3 (3.9 or newer) on the path of the image"
    )


def asked(found: dict[str, Any], *, port: int | None = 8480, address: str = "10.0.0.5") -> dict[str, Any]:
    """The pod with an address, and with a gate port."""
    ports = [{"name": "http", "containerPort": 8000}]
    ports += [{"name": "gate", "containerPort": port}] if port else []
    containers = [
        {"name": "mesh", "ports": [{"name": "gate", "containerPort": 1}]},
        {"name": "vllm", "ports": ports},
    ]
    return {**found, "spec": {"containers": containers}, "status": {**found["status"], "podIP": address}}


def test_a_manager_is_asked_at_its_pods_address_and_at_the_port_of_its_own_template() -> None:
    assert manager_url(pod_facts(asked(LOADING))) == "http://10.0.0.5:8480/status"
    assert manager_url(pod_facts(asked(LOADING, port=9000, address="fd00::5"))) == "http://[fd00::5]:9000/status"
    for odd in (asked(LOADING, port=None), asked(LOADING, address=""), asked(LOADING, address="example.com"), LOADING):
        assert manager_url(pod_facts(odd)) == ""


def test_where_more_can_be_said_of_a_pod_follows_from_how_far_it_is() -> None:
    started, changed = datetime(2026, 11, 22, 10, tzinfo=UTC), datetime(2026, 11, 22, 11, tzinfo=UTC)
    assert needed_lookup(asked(LOADING)) == NeededLookup(Lookup.LOADING, started)
    assert needed_lookup(asked(CRASHED_AND_BACK)) == NeededLookup(Lookup.LOADING, started)
    assert needed_lookup(asked(WITHDRAWN)) == NeededLookup(Lookup.WITHDRAWN, changed)
    assert needed_lookup(CREATING) == NeededLookup(Lookup.EVENTS, changed)
    unplaced = pod(conditions=({**UNSCHEDULABLE, "lastTransitionTime": "2026-11-22T10:00:00Z"},), containerStatuses=[])
    assert needed_lookup(unplaced) == NeededLookup(Lookup.PLACEMENT, started)
    for nobody_to_ask in (LOADING, WITHDRAWN, asked(LOADING, port=None)):
        assert needed_lookup(nobody_to_ask) is None
    assert needed_lookup(asked(pod(ready=True))) == NeededLookup(Lookup.SERVING, changed)
    assert needed_lookup(pod(ready=True)) is None


def test_what_slows_down_an_engine_that_serves_is_told_without_numbers() -> None:
    slow = EngineStatus("serving", "Progress", ready=True, symptoms=("NoSuchSymptom", "QueueGrows"))
    told = report(pod(ready=True), slow)
    assert (told.state, told.sentence) == (EngineState.SERVING, "")
    assert told.diagnosis is not None
    assert told.diagnosis.explanation.id == "QueueGrows"
    assert told.diagnosis.sentence.startswith("ten requests or more wait while others run: raise spec.replicas")
    assert report(pod(ready=True)).diagnosis is None


def test_an_engine_that_listens_on_the_loopback_alone_is_told_with_the_field() -> None:
    words = "the server listens on 127.0.0.1 only, where no client reaches it: take --host out of its arguments"
    told = report(LOADING, loading("Ready", "", "WrongModel", words))
    assert (told.state, told.reason) == (EngineState.FAILING, Reason.ENGINES_FAILING)
    assert told.diagnosis is not None
    assert told.diagnosis.explanation.field == "spec.engine.host"
    assert told.diagnosis.explanation.permanent


# --- what happens before the engine runs, and beside it

SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-22T10:59:00Z"}
SET_UP = {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": "2026-11-22T11:00:02Z"}
INITIALIZING = waiting("PodInitializing")
QUEUE = "kueue.x-k8s.io/admission"
GATED = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "non-empty gates"}
NO_SUCH_IMAGE = "rpc error: code = NotFound desc = failed to resolve reference: not found"
NO_IMAGE = "the registry has no such image or tag: correct the name and tag in %s, or push the image"
BACK_OFF = f'Back-off pulling image "mesh:none": ErrImagePull: {NO_SUCH_IMAGE}'


def with_spec(found: dict[str, Any], *, created: str = "2026-11-22T11:55:30Z", **spec: Any) -> dict[str, Any]:
    """The pod with parts of its spec that the cache keeps."""
    return {**found, "spec": spec, "metadata": {**found["metadata"], "creationTimestamp": created}}


def starting(
    *init: dict[str, Any], sidecars: tuple[str, ...] = (), state: dict[str, Any] = INITIALIZING
) -> dict[str, Any]:
    """A pod that is set up, with init containers, before its engine runs."""
    found = pod(container={"state": state}, conditions=(SCHEDULED, SET_UP), initContainerStatuses=list(init))
    return with_spec(found, initContainers=[{"name": name, "restartPolicy": "Always"} for name in sidecars])


def serving_with(beside: dict[str, Any]) -> dict[str, Any]:
    """A pod whose engine is ready, with a container beside it."""
    ready = {"name": "vllm", "ready": True, "started": True, "state": RUNNING}
    return pod(containerStatuses=[beside, ready], conditions=(SCHEDULED, SET_UP))


DONE = {"name": "first", "ready": True, "state": terminated(0, reason="Completed")}
BEFORE: list[tuple[str, dict[str, Any], EngineState, Reason, str]] = [
    (
        "held back by a queue",
        with_spec(pod(conditions=(GATED,), containerStatuses=[]), schedulingGates=[{"name": QUEUE}]),
        EngineState.STARTING,
        Reason.SCHEDULING_GATED,
        f"is held back since 2026-11-22T11:55:30Z by scheduling gate {QUEUE}, until its queue admits the pod",
    ),
    (
        "held back by somebody's gate",
        with_spec(pod(conditions=(GATED,), containerStatuses=[]), schedulingGates=[{"name": "example.com/h"}]),
        EngineState.STARTING,
        Reason.SCHEDULING_GATED,
        "is held back since 2026-11-22T11:55:30Z by scheduling gate example.com/h, until its controller admits the pod",
    ),
    (
        "no scheduler yet",
        with_spec(pod(containerStatuses=[])),
        EngineState.STARTING,
        Reason.ENGINES_STARTING,
        "waits since 2026-11-22T11:55:30Z for scheduler default-scheduler, which has said nothing of it",
    ),
    (
        "no scheduler of that name",
        with_spec(pod(containerStatuses=[]), created="2026-11-22T11:55:00Z", schedulerName="volcano"),
        EngineState.FAILING,
        Reason.ENGINES_FAILING,
        "waits since 2026-11-22T11:55:00Z for scheduler volcano, which has said nothing of it: does it run?",
    ),
    (
        "kubelet has not taken it",
        with_spec(pod(conditions=(SCHEDULED,), containerStatuses=[]), nodeName="gpu-1"),
        EngineState.FAILING,
        Reason.ENGINES_FAILING,
        "waits since 2026-11-22T10:59:00Z for the kubelet of node gpu-1, which has not taken it: is the node well?",
    ),
    (
        "image is pulled",
        starting(state=waiting("ContainerCreating")),
        EngineState.STARTING,
        Reason.ENGINES_STARTING,
        "pulls its image since 2026-11-22T11:00:02Z",
    ),
    (
        "init container runs",
        starting(DONE, {"name": "fetch", "state": RUNNING}),
        EngineState.STARTING,
        Reason.ENGINES_STARTING,
        f"waits for init container fetch, which runs since {STARTED}",
    ),
    (
        "init container's image is pulled",
        starting({"name": "fetch", "state": INITIALIZING}),
        EngineState.STARTING,
        Reason.ENGINES_STARTING,
        "waits for init container fetch, whose image is pulled",
    ),
    (
        "init containers are done",
        starting(DONE),
        EngineState.STARTING,
        Reason.ENGINES_STARTING,
        "pulls its image since 2026-11-22T11:00:02Z",
    ),
    (
        "init container crashes",
        starting(
            {"name": "fetch", "state": waiting("CrashLoopBackOff"), "lastState": terminated(2, LOG), "restartCount": 5}
        ),
        EngineState.FAILING,
        Reason.ENGINES_FAILING,
        "cannot start: init container fetch ended with exit code 2 (Error, 5 restarts): ValueError: out of memory",
    ),
    (
        "init container tries again after a crash",
        starting({"name": "fetch", "state": RUNNING, "lastState": terminated(2), "restartCount": 1}),
        EngineState.FAILING,
        Reason.ENGINES_FAILING,
        "cannot start: init container fetch ended with exit code 2 (Error, 1 restarts)",
    ),
    (
        "sidecar before the engine starts up",
        starting({"name": "mesh", "state": RUNNING}, sidecars=("mesh",)),
        EngineState.STARTING,
        Reason.ENGINES_STARTING,
        f"waits for sidecar mesh, which runs since {STARTED} and has not started up",
    ),
    (
        "sidecar before the engine crashes",
        starting({"name": "mesh", "state": terminated(0), "restartCount": 3}, sidecars=("mesh",)),
        EngineState.FAILING,
        Reason.ENGINES_FAILING,
        "is not ready: sidecar mesh ended with exit code 0 (Error, 3 restarts)",
    ),
    (
        "sidecar of a patch crashes beside a ready engine",
        serving_with(
            {"name": "mesh", "state": waiting("CrashLoopBackOff"), "lastState": terminated(1), "restartCount": 7}
        ),
        EngineState.FAILING,
        Reason.ENGINES_FAILING,
        "is not ready: sidecar mesh ended with exit code 1 (Error, 7 restarts)",
    ),
    (
        "sidecar that is back off and no longer says why",
        serving_with({"name": "mesh", "state": waiting("CrashLoopBackOff", "back-off 5m0s")}),
        EngineState.FAILING,
        Reason.ENGINES_FAILING,
        "cannot start: sidecar mesh: CrashLoopBackOff: back-off 5m0s",
    ),
    (
        "image of a sidecar",
        starting({"name": "mesh", "state": waiting("ImagePullBackOff", BACK_OFF)}, sidecars=("mesh",)),
        EngineState.FAILING,
        Reason.ENGINES_FAILING,
        f"cannot start: sidecar mesh: ErrImagePull: {NO_SUCH_IMAGE}: {NO_IMAGE % 'spec.pod.sidecars[mesh].image'}",
    ),
    (
        "image name of an init container",
        starting({"name": "fetch", "state": waiting("InvalidImageName", "couldn't parse")}),
        EngineState.FAILING,
        Reason.ENGINES_FAILING,
        "cannot start: init container fetch: InvalidImageName: couldn't parse",
    ),
    (
        "image that is gone after a crash",
        starting(state=waiting("ErrImagePull", NO_SUCH_IMAGE)),
        EngineState.FAILING,
        Reason.ENGINES_FAILING,
        f"cannot start: ErrImagePull: {NO_SUCH_IMAGE}: {NO_IMAGE % 'spec.engine.image'}",
    ),
]


@pytest.mark.parametrize(
    ("found", "state", "reason", "sentence"), [row[1:] for row in BEFORE], ids=[row[0] for row in BEFORE]
)
def test_what_comes_before_the_engine_and_what_runs_beside_it_is_told_as_what_it_is(
    found: dict[str, Any], state: EngineState, reason: Reason, sentence: str
) -> None:
    told = report(found, now=NOW)
    assert (told.state, told.reason, told.sentence) == (state, reason, sentence)


def test_an_image_that_is_tried_again_and_again_is_told_by_one_sentence() -> None:
    states = [waiting("ErrImagePull", NO_SUCH_IMAGE), waiting("ImagePullBackOff", BACK_OFF)]
    assert len({report(pod(container={"state": state})).sentence for state in states}) == 1


def test_a_claim_without_a_volume_is_named_beside_the_scheduler_that_may_wait_for_it() -> None:
    told = report(with_spec(pod(containerStatuses=[])), unbound_claims=("qwen-cache",), now=NOW)
    assert told.sentence.endswith("which has said nothing of it; claim qwen-cache has no volume: see its Events")
    assert unbound_claims(
        [
            {"kind": "PersistentVolumeClaim", "metadata": {"name": "a"}, "status": {"phase": "Pending"}},
            {"kind": "PersistentVolumeClaim", "metadata": {"name": "b"}, "status": {"phase": "Bound"}},
            {"kind": "Service", "metadata": {"name": "c"}},
        ]
    ) == ("a",)


def test_waiting_becomes_a_fault_after_five_minutes_and_that_moment_is_known_before() -> None:
    found = with_spec(pod(containerStatuses=[]))
    turns_at = judged_again_at([found, pod()], NOW)
    assert turns_at == NOW + timedelta(seconds=30)
    assert report(found, now=turns_at - timedelta(seconds=1)).state is EngineState.STARTING
    assert report(found, now=turns_at).state is EngineState.FAILING
    assert judged_again_at([found], turns_at) is None


@pytest.mark.parametrize(
    ("ready", "node", "reason"),
    [
        ({"status": "False"}, {"nodeName": "gpu-1"}, ""),
        ({"status": "Unknown", "reason": "NodeStatusUnknown"}, {"nodeName": "gpu-1"}, ""),
        ({"status": "False", "reason": "ContainersNotReady"}, {"nodeName": "gpu-1"}, "NodeLost"),
    ],
    ids=["marked by the node controller", "unknown", "of an older Kubernetes"],
)
def test_an_engine_on_a_node_that_does_not_answer_is_told_as_that(
    ready: dict[str, Any], node: dict[str, Any], reason: str
) -> None:
    found = with_spec(pod(container={"ready": True, "started": True, "state": RUNNING}, reason=reason), **node)
    found["status"]["conditions"] = [{"type": "Ready", "lastTransitionTime": "2026-11-22T11:00:00Z", **ready}]
    told = report(found)
    assert (told.state, told.reason) == (EngineState.WITHDRAWN, Reason.NODE_LOST)
    assert told.sentence == (
        f"takes no traffic {SINCE}: its node gpu-1 does not answer; if it stays away, another engine is started"
    )


def test_an_engine_that_is_ready_in_a_pod_that_is_not_is_told_with_what_is_missing() -> None:
    found = pod(container={"ready": True, "started": True, "state": RUNNING})
    message = 'corresponding condition of pod readiness gate "example.com/lb" does not exist.'
    found["status"]["conditions"][-1] |= {"reason": "ReadinessGatesNotReady", "message": message}
    told = report(found)
    assert (told.state, told.reason) == (EngineState.WITHDRAWN, Reason.ENGINES_WITHDRAWN)
    assert told.sentence == f"takes no traffic {SINCE}: the engine is ready, its pod is not: {message}"


def test_a_sandbox_that_cannot_be_made_is_told_until_it_is_there() -> None:
    message = KubeletMessage("Failed to create pod sandbox: no network")
    told = report(CREATING, message)
    assert (told.state, told.sentence) == (
        EngineState.FAILING,
        f"cannot start {SINCE}: Failed to create pod sandbox: no network",
    )
    assert report(starting(), message).state is EngineState.STARTING
    assert report(LOADING, message).state is EngineState.STARTING


def test_dead_pods_are_no_engines() -> None:
    dead = [pod("qwen-0", phase="Failed", reason="Evicted"), pod("qwen-2", phase="Succeeded")]
    assert [told.pod for told in reports([*dead, pod("qwen-1")])] == ["qwen-1"]


@pytest.mark.parametrize("ready", ["True", "False"])
def test_times_and_texts_that_the_api_server_writes_as_null_are_not_known(ready: str) -> None:
    found = pod(container={"ready": ready == "True", "started": True, "state": {"running": {"startedAt": None}}})
    found["metadata"]["creationTimestamp"] = None
    found["status"]["podIP"] = None
    for condition in found["status"]["conditions"]:
        condition |= {"status": ready, "lastTransitionTime": None, "message": None, "reason": None}
    told = report(found, now=NOW)
    assert told.since == ""
    assert "None" not in told.sentence
