"""What is known of a model to somebody with a kubectl: read with the user's own rights, also while no operator runs.

What the user may not read, or what does not answer, leaves a gap that is told; the rest is read all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from vllm_operator.api import json_text
from vllm_operator.api.names import INSTANCE, instance_name, selector_text
from vllm_operator.cli.kubectl import KubectlError
from vllm_operator.cli.pods import each, manager_status
from vllm_operator.cli.rollout import objects
from vllm_operator.cli.rollout.objects import RESOURCE, RefusedError
from vllm_operator.cli.rollout.waiting import REQUEST_SECONDS
from vllm_operator.cli.status.downloads import downloaded, may_download
from vllm_operator.diagnosis.cause import Lookup
from vllm_operator.diagnosis.engine_status import engine_status
from vllm_operator.diagnosis.events import latest_message
from vllm_operator.diagnosis.facts import is_dead, is_leaving, pod_facts, set_up_since
from vllm_operator.diagnosis.known import recognized
from vllm_operator.diagnosis.policies import cause_of
from vllm_operator.diagnosis.queues import GONE, JOB_UID, POD_GROUP, UNMADE, Admission, admission_of
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vllm_operator.cli.kubectl import Kubectl
    from vllm_operator.cli.status.progress import Downloaded
    from vllm_operator.diagnosis.engine_status import EngineStatus
    from vllm_operator.diagnosis.facts import Finding
    from vllm_operator.diagnosis.known import Recognized

_TIMEOUT: Final = f"--request-timeout={REQUEST_SECONDS}s"

DEPLOYMENT: Final = "the Deployment"
"""What a gap begins with where the Deployment cannot be read, so that it is not known whether there is one."""

_OF_THE_OPERATOR: Final = "what the nodes have, and who holds it, is looked up by the operator alone"

_WORKLOADS: Final = "workloads.kueue.x-k8s.io"
_NOT_SERVED: Final = "the server doesn't have a resource type"
"""What kubectl says of a kind that the API server does not know."""

Found = TypeVar("Found")


class MissingModelError(RefusedError):
    """There is no such model, or not any more."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What kubectl has read of one model."""

    model: Mapping[str, Any]
    at: datetime
    deployment: Mapping[str, Any] | None = None
    """None where there is none, and where it cannot be read."""
    pods: tuple[Mapping[str, Any], ...] | None = None
    """None where they cannot be read, or were not asked for."""
    claims: tuple[Mapping[str, Any], ...] = ()
    """The model's PersistentVolumeClaims, where a pod may wait for one."""
    findings: Mapping[str, Finding] = field(default_factory=dict)
    """What lookups of pods that do not explain themselves have brought, by the pod's uid."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Why a lookup has brought nothing, by the pod's uid."""
    downloaded: Mapping[str, Downloaded] = field(default_factory=dict)
    """How much of the model an engine has that may be downloading it, by the pod's uid."""
    symptoms: Mapping[str, tuple[Recognized, ...]] = field(default_factory=dict)
    """What slows an engine down, as its manager has recognized it in the log, by the pod's uid."""
    gaps: tuple[str, ...] = ()
    """What could not be read, and why."""

    @property
    def living(self) -> list[Mapping[str, Any]]:
        """The pods that are engines: neither dead nor on their way out, by name."""
        return living(self.pods or ())


class _Explained(NamedTuple):
    """What the lookups of one pod have brought."""

    uid: str
    finding: Finding | None = None
    unread: str = ""
    downloaded: Downloaded | None = None
    symptoms: tuple[Recognized, ...] = ()


def living(pods: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that are neither dead nor on their way out, by name."""
    found = (pod for pod in pods if not (is_leaving(pod) or is_dead(pod)))
    return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


def found_model(kubectl: Kubectl, name: str, request_seconds: int = REQUEST_SECONDS) -> Mapping[str, Any]:
    """A model; empty where there is none.

    Raises:
        KubectlError: kubectl may not read it.
    """
    words = ("get", RESOURCE, name, "--ignore-not-found", "--output", "json", f"--request-timeout={request_seconds}s")
    text = kubectl.run(*words)
    found: Mapping[str, Any] = json_text.loads(text) if text.strip() else {}
    return found


def all_models(kubectl: Kubectl, *, everywhere: bool) -> list[Sources]:
    """All models of a namespace, or of all namespaces: what their own status says, by one call.

    Raises:
        KubectlError: kubectl may not list them.
    """
    found = kubectl.get(RESOURCE, *(["--all-namespaces"] if everywhere else []), _TIMEOUT)["items"]
    now = datetime.now(UTC)
    return [Sources(one, now) for one in found]


def read(kubectl: Kubectl, name: str, *, ask_all: bool = False) -> Sources:
    """Everything that can be read of one model.

    Args:
        kubectl: Reads.
        name: The model's.
        ask_all: Whether engines that serve are asked too: what slows them down.

    Raises:
        KubectlError: kubectl cannot read the model itself.
        MissingModelError: there is none.
    """
    return _Reader(kubectl, ask_all=ask_all).read(name)


class _Reader:
    """Reads one model, and remembers what it could not read."""

    def __init__(self, kubectl: Kubectl, *, ask_all: bool) -> None:
        self._kubectl = kubectl
        self._ask_all = ask_all
        self._gaps: dict[str, None] = {}

    def read(self, name: str) -> Sources:
        model, deployment = self._model_and_deployment(name)
        if not model:
            raise MissingModelError(f"{objects.shown(name)} not found")
        found = Sources(model, datetime.now(UTC), deployment or None, self._pods(name))
        explained = each(lambda pod: self._explained(pod, model), found.living)
        return replace(
            found,
            claims=self._claims(found),
            findings={one.uid: one.finding for one in explained if one.finding is not None},
            unread={one.uid: one.unread for one in explained if one.unread},
            downloaded={one.uid: one.downloaded for one in explained if one.downloaded is not None},
            symptoms={one.uid: one.symptoms for one in explained if one.symptoms},
            gaps=tuple(self._gaps),
        )

    def _or_gap(self, what: str, reading: Callable[[], Found], otherwise: Found) -> Found:
        """What a reading brings; where it fails, a gap is remembered."""
        try:
            return reading()
        except KubectlError as error:
            self._gaps[f"{what}: {error}"] = None
            return otherwise

    def _model_and_deployment(self, name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Both by one call, or the model alone where that fails: the user may have no right to the other one."""
        try:
            return objects.model_and_deployment(self._kubectl, name, REQUEST_SECONDS)
        except KubectlError as error:
            model = found_model(self._kubectl, name)
            self._gaps[f"{DEPLOYMENT}: {error}"] = None
            return model, {}

    def _pods(self, name: str) -> tuple[Mapping[str, Any], ...] | None:
        selector = selector_text(instance_name(name))

        def pods() -> tuple[Mapping[str, Any], ...] | None:
            return tuple(self._kubectl.get("pods", "--selector", selector, _TIMEOUT)["items"])

        return self._or_gap("the pods", pods, None)

    def _claims(self, found: Sources) -> tuple[Mapping[str, Any], ...]:
        if all(pod_facts(pod).is_scheduled for pod in found.living):
            return ()
        selector = f"{INSTANCE}={instance_name(found.model['metadata']['name'])}"

        def claims() -> tuple[Mapping[str, Any], ...]:
            return tuple(self._kubectl.get("persistentvolumeclaims", "--selector", selector, _TIMEOUT)["items"])

        return self._or_gap("the claims", claims, ())

    def _explained(self, pod: Mapping[str, Any], model: Mapping[str, Any]) -> _Explained:
        """What a pod does not say itself: its queue does, or kubelet before its containers run, else its manager."""
        uid, facts = str(pod["metadata"]["uid"]), pod_facts(pod)
        lookup = cause_of(facts).lookup
        if lookup is Lookup.EVENTS:
            return _Explained(uid, self._or_gap("the Events of pods", lambda: self._kubelet_says(pod), None))
        if lookup is Lookup.QUEUE:
            return _Explained(uid, self._or_gap("the Workloads of Kueue", lambda: self._queue_says(pod), None))
        if lookup is Lookup.PLACEMENT and not facts.node:
            return _Explained(uid, unread=_OF_THE_OPERATOR)
        if lookup is None and not (self._ask_all and facts.is_ready):
            return _Explained(uid)
        return self._manager_says(pod, model)

    def _manager_says(self, pod: Mapping[str, Any], model: Mapping[str, Any]) -> _Explained:
        uid = str(pod["metadata"]["uid"])
        try:
            document = manager_status(self._kubectl, pod)
        except KubectlError as error:
            return _Explained(uid, unread=str(error))
        status = engine_status(document)
        if status is None:
            return _Explained(uid, unread="what answers is not its manager")
        known = (recognized(one) for one in items(document, "symptoms"))
        symptoms = tuple(one for one in known if one is not None)
        return _Explained(uid, status, downloaded=self._downloaded(pod, model, status), symptoms=symptoms)

    def _downloaded(self, pod: Mapping[str, Any], model: Mapping[str, Any], status: EngineStatus) -> Downloaded | None:
        if not may_download(status):
            return None
        what = f"the download of {pod['metadata']['name']}"
        return self._or_gap(what, lambda: downloaded(self._kubectl, pod, model), None)

    def _queue_says(self, pod: Mapping[str, Any]) -> Finding:
        metadata = pod["metadata"]
        group = part(metadata, "labels").get(POD_GROUP)
        which = (str(group), "--ignore-not-found") if group else ("--selector", f"{JOB_UID}={metadata['uid']}")
        try:
            text = self._kubectl.run("get", _WORKLOADS, *which, "--output", "json", _TIMEOUT)
        except KubectlError as error:
            if _NOT_SERVED in str(error):
                return Admission(remark=GONE)
            raise
        found = json_text.loads(text) if text.strip() else {}
        workload = found if group else next(iter(found.get("items", ())), None)
        return admission_of(workload) if workload else Admission(remark=UNMADE)

    def _kubelet_says(self, pod: Mapping[str, Any]) -> Finding | None:
        since = set_up_since(pod)
        selector = f"involvedObject.uid={pod['metadata']['uid']},type=Warning"
        events = self._kubectl.get("events", "--field-selector", selector, _TIMEOUT)["items"]
        return latest_message(events, since) if since else None
