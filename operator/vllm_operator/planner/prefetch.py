"""The Jobs that fill a model's claim: which there shall be, how far they are, and whether engines may start. Pure.

Jobs are shared, so none of them is a child: each model adds itself to the owners of those that it wants, and takes
itself out of the others; who is the last one deletes it. What is not whole yet is left where it is, and the next Job of
the same name goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.conditions import Reason, by_type
from vllm_operator.api.live import ObjectKey, Remembered
from vllm_operator.api.names import DESIRED_HASH, PREFETCHED
from vllm_operator.api.status import MAX_PREFETCHED, MAX_SENTENCE_LENGTH, Prefetched, PrefetchState
from vllm_operator.diagnosis.fleet import Outcome, refused, unfinished
from vllm_operator.prefetch.faults import LASTING
from vllm_operator.render.downloads import downloads, mark
from vllm_operator.render.objects import hash_of
from vllm_operator.render.prefetch import CONTAINER_NAME, jobs, owner_of
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vllm_operator.api.live import LiveObject
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.diagnosis.fleet import Fleet
    from vllm_operator.planner.plan import Observation
    from vllm_operator.render.downloads import Download

LOOK_AGAIN_AFTER: Final = timedelta(seconds=3)
"""How old what is told of a download may be; no watch shows it."""

_MAX_WORD_LENGTH: Final = 64
"""Of what a pod says: the status has no room for more."""
_MOST: Final = 2**53
"""Greatest number that every reader of JSON understands."""

_OVER: Final = frozenset({"Succeeded", "Failed"})
_AT_REST: Final = frozenset({"ContainerCreating", "PodInitializing"})


@dataclass(frozen=True, slots=True)
class JobAnswer:
    """What the program in a Job's pod says; sizes in bytes."""

    state: str
    reason: str = ""
    message: str = ""
    commit: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_per_second: int = 0
    seconds_left: int | None = None


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A Job as it is now."""

    live: LiveObject
    pod: Mapping[str, Any] | None = None
    """Its newest pod; None where there is none, or nobody looked."""
    answer: JobAnswer | None = None
    """None where its program was not asked, or did not answer."""

    @property
    def complete(self) -> bool:
        """Whether all is in the claim."""
        return self._condition("Complete").get("status") == "True"

    @property
    def failed(self) -> str:
        """Why it has ended without that; empty where it has not."""
        failed = self._condition("Failed")
        return (
            str(failed.get("message") or failed.get("reason") or "no reason") if failed.get("status") == "True" else ""
        )

    @property
    def owners(self) -> list[Mapping[str, Any]]:
        """Who wants it."""
        return list(self.live.body["metadata"].get("ownerReferences") or ())

    def _condition(self, kind: str) -> Mapping[str, Any]:
        return by_type(self.live.status).get(kind, {})


@dataclass(frozen=True, slots=True)
class PrefetchSeen:
    """The Jobs that concern a model, as they were when it was looked at."""

    jobs: Mapping[str, JobSeen] = field(default_factory=dict)
    """Those of the operator that the model wants or was told to have, by name."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Why the API server has not let a Job be made or changed a moment ago, by its name."""
    unreadable: str = ""
    """Why the Jobs cannot be read; empty where they can."""
    pause: timedelta = LOOK_AGAIN_AFTER
    """How old it may be; longer where many models wait for downloads."""


class JobAction(Enum):
    """What is done with a Job."""

    MAKE = auto()
    JOIN = auto()
    LEAVE = auto()
    DELETE = auto()


@dataclass(frozen=True, slots=True)
class JobChange:
    """One change of a Job."""

    action: JobAction
    name: str
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What is made, or the merge patch."""
    live: LiveObject | None = None
    reason: str = field(default="", compare=False)


def job_answer(told: object) -> JobAnswer | None:
    """What the program has said; None where it is not the program that has."""
    if not isinstance(told, dict) or not isinstance(told.get("state"), str):
        return None
    return JobAnswer(
        state=told["state"],
        reason=str(told.get("reason") or "")[:_MAX_WORD_LENGTH],
        message=str(told.get("message") or "")[:MAX_SENTENCE_LENGTH],
        commit=str(told.get("commit") or "")[:_MAX_WORD_LENGTH],
        bytes_done=_number(told.get("bytes_done")) or 0,
        bytes_total=_number(told.get("bytes_total")) or 0,
        bytes_per_second=_number(told.get("bytes_per_second")) or 0,
        seconds_left=_number(told.get("seconds_left")),
    )


def is_concerned(raw: Mapping[str, Any]) -> bool:
    """Whether a model wants Jobs, or was told to have some."""
    return bool(part(raw, "status").get("prefetch")) or _asks(raw)


def changes(model: VLLMModel, seen: PrefetchSeen, release: str = "") -> tuple[JobChange, ...]:
    """What to do about the Jobs. Of a suspended model those that are not done yet go, as its engines do."""
    if seen.unreadable:
        return ()
    desired = {body["metadata"]["name"]: body for body in jobs(model, release)}
    kept = {name for name in desired if not model.spec.suspend or (name in seen.jobs and seen.jobs[name].complete)}
    found = [_wanted(model, desired[name], seen.jobs.get(name)) for name in sorted(kept)]
    found += [_unwanted(model, job) for name, job in sorted(seen.jobs.items()) if name not in kept]
    return tuple(one for one in found if one is not None and one.name not in seen.refusals)


def is_complete(model: VLLMModel, seen: PrefetchSeen | None, release: str = "") -> bool:
    """Whether everything that the engines need is in the claim."""
    names = [one.job_name(release) for one in downloads(model.spec, model.instance)]
    return not names or (seen is not None and all(name in seen.jobs and seen.jobs[name].complete for name in names))


def waits(model: VLLMModel, observation: Observation) -> bool:
    """Whether no engine of this spec may be made yet.

    Where the Deployment has pods of these very downloads, all was there once: a Job that somebody has deleted since
    stops nobody.
    """
    wanted = mark(model)
    live = observation.children.get(ObjectKey("Deployment", model.instance))
    template = part(live.body, "spec", "template") if live else {}
    if not wanted or part(template, "metadata", "annotations").get(PREFETCHED) == wanted:
        return False
    return not is_complete(model, observation.prefetch, observation.release)


def progress(model: VLLMModel, observation: Observation) -> list[Prefetched]:
    """How far each download is, for the status."""
    seen = observation.prefetch
    if seen is None:
        return []
    told = {str(one.get("job")): one for one in items(observation.raw, "status", "prefetch")}
    found = downloads(model.spec, model.instance)
    return [_progress(one, seen, told, observation.release) for one in found[:MAX_PREFETCHED]]


def judged(outcome: Outcome, model: VLLMModel, observation: Observation, seen: Fleet) -> Outcome:
    """The outcome of the engines, with what they wait for."""
    if not waits(model, observation):
        return outcome
    if model.spec.suspend:
        text = "spec.suspend is true: no engine is wanted, and nothing is downloaded, until it is false again"
        return outcome if seen.existing else Outcome(ready=False, reason=Reason.SUSPENDED, message=text, settled=True)
    return _waiting(outcome, progress(model, observation), observation.prefetch)


def look_again_at(model: VLLMModel, observation: Observation) -> datetime | None:
    """When to ask again; None where nothing is on its way."""
    busy = bool(mark(model)) and not model.spec.suspend
    done = is_complete(model, observation.prefetch, observation.release)
    pause = observation.prefetch.pause if observation.prefetch else LOOK_AGAIN_AFTER
    return observation.now + pause if busy and not done else None


def _wanted(model: VLLMModel, desired: Mapping[str, Any], job: JobSeen | None) -> JobChange | None:
    name, owner = str(desired["metadata"]["name"]), owner_of(model)
    if job is None:
        metadata = {**desired["metadata"], "ownerReferences": [owner]}
        return JobChange(JobAction.MAKE, name, {**desired, "metadata": metadata}, reason="missing")
    if job.live.leaving:
        return None  # it is made anew when it is gone
    if model.uid not in [one.get("uid") for one in job.owners]:
        patch = {"metadata": {"ownerReferences": [*job.owners, owner]}}
        return JobChange(JobAction.JOIN, name, patch, job.live, reason=f"{model.name} wants it too")
    first = job.owners[0].get("uid")  # who has made it, or has been there for longest, says how its pod is
    changed = job.live.annotations.get(DESIRED_HASH) != hash_of(desired)
    if changed and not job.complete and first == model.uid:
        return JobChange(JobAction.DELETE, name, live=job.live, reason="its pod is to be another: it is made anew")
    return None


def _unwanted(model: VLLMModel, job: JobSeen) -> JobChange | None:
    others = [one for one in job.owners if one.get("uid") != model.uid]
    if len(others) == len(job.owners) or job.live.leaving:
        return None
    if others:
        patch = {"metadata": {"ownerReferences": others}}
        return JobChange(JobAction.LEAVE, job.live.name, patch, job.live, reason=f"{model.name} no longer wants it")
    return JobChange(JobAction.DELETE, job.live.name, live=job.live, reason="no longer wanted")


def _progress(
    download: Download, seen: PrefetchSeen, told: Mapping[str, Mapping[str, Any]], release: str
) -> Prefetched:
    name = download.job_name(release)
    job, before = seen.jobs.get(name), told.get(name, {})
    answer = job.answer if job else None
    state, reason, message = _state(job, answer, seen.refusals.get(name) or seen.unreadable)
    downloading = state is PrefetchState.DOWNLOADING and answer is not None
    return Prefetched(
        job=name,
        source=download.source,
        revision=download.revision or None,
        commit=(answer.commit if answer else str(before.get("commit") or "")) or None,
        state=state,
        reason=reason or None,
        message=message[:MAX_SENTENCE_LENGTH] or None,
        bytes_done=answer.bytes_done if answer else _number(before.get("bytesDone")) or 0,
        bytes_total=answer.bytes_total if answer else _number(before.get("bytesTotal")) or 0,
        bytes_per_second=answer.bytes_per_second if answer and downloading else None,
        seconds_left=answer.seconds_left if answer and downloading else None,
    )


def _state(job: JobSeen | None, answer: JobAnswer | None, refusal: str) -> tuple[PrefetchState, str, str]:
    """State, reason and message of a download."""
    if job is not None and job.complete:
        return PrefetchState.COMPLETE, "", ""
    if refusal:
        return PrefetchState.PENDING, "Refused", refusal
    if job is None:
        return PrefetchState.PENDING, "", ""
    if job.failed:
        advice = f"delete Job {job.live.name}, and it is made anew"
        return PrefetchState.PENDING, "JobFailed", f"Job {job.live.name} has failed ({job.failed}): {advice}"
    if answer is not None:
        known = {one.value: one for one in PrefetchState}
        found = known.get(answer.state, PrefetchState.DOWNLOADING)
        # engines are made once the Job is complete, which follows the end of its pod
        return PrefetchState.VERIFYING if found is PrefetchState.COMPLETE else found, answer.reason, answer.message
    return PrefetchState.PENDING, *_pod_trouble(job)


def _pod_trouble(job: JobSeen) -> tuple[str, str]:
    """Why nothing is heard of a Job: a reason and a sentence."""
    if part(job.live.body, "spec").get("suspend"):
        return "JobSuspended", f"Job {job.live.name} is suspended: a queue, such as Kueue, holds it back"
    if job.pod is None:
        return (
            "",
            f"Job {job.live.name} has no pod yet: `kubectl describe job {job.live.name}` tells why, where it lasts",
        )
    name = str(job.pod["metadata"]["name"])
    scheduled = by_type(part(job.pod, "status")).get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return "Unschedulable", f"no node takes pod {name}: {scheduled.get('message') or scheduled.get('reason')}"
    container = next(
        (one for one in items(job.pod, "status", "containerStatuses") if one.get("name") == CONTAINER_NAME), {}
    )
    waiting, ended = part(container, "state", "waiting"), part(container, "lastState", "terminated")
    reason = str(waiting.get("reason") or "")
    if reason and reason not in _AT_REST:
        words = str(ended.get("message") or waiting.get("message") or "").strip()
        return reason, f"pod {name} does not start ({reason}){f': {words}' if words else ''}"
    if part(container, "state", "running"):
        return "", f"pod {name} runs, and the operator cannot ask it: a NetworkPolicy?"
    return "", f"pod {name} is being set up"


def _waiting(outcome: Outcome, entries: Sequence[Prefetched], seen: PrefetchSeen | None) -> Outcome:
    """What is told while engines wait: what is wrong, or what is on its way."""
    if seen is None:
        return unfinished(
            Reason.PREFETCHING, f"{outcome.message}; the Jobs that fill the claim have not been looked at"
        )
    left = [one for one in entries if one.state is not PrefetchState.COMPLETE]
    wrong = [one for one in left if one.reason]
    told = "; ".join([outcome.message, *(_sentence(one) for one in wrong or left)])
    if not wrong:
        return unfinished(Reason.PREFETCHING, f"{told}; status.prefetch tells how far")
    lasting = any(one.reason in LASTING or one.reason == "JobFailed" for one in wrong)
    return (refused if lasting else unfinished)(Reason.PREFETCH_FAILS, told)


def _sentence(one: Prefetched) -> str:
    """What a model that waits says of one download: without numbers, which would be news each time."""
    what = one.source + (f" ({one.revision})" if one.revision else "")
    if one.reason:
        return f"{what} cannot be downloaded ({one.reason}): {one.message}"
    return f"engines wait until {what} is in the claim"


def _asks(raw: Mapping[str, Any]) -> bool:
    return isinstance(part(raw, "spec", "storage", "cache").get("prefetch"), dict)


asks_for_prefetch: Final = Remembered(_asks)
"""Whether the spec of a live model, as it was applied, asks for Jobs."""


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST else None


def newest_pod(pods: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The pod of a Job that counts: the newest that is not over, else the newest."""

    def age(pod: Mapping[str, Any]) -> tuple[bool, str]:
        return part(pod, "status").get("phase") not in _OVER, str(pod["metadata"].get("creationTimestamp") or "")

    return max(pods, key=age, default=None)


def last_words(pod: Mapping[str, Any]) -> Iterator[str]:
    """What the program of a pod that is over has left behind."""
    for container in items(pod, "status", "containerStatuses"):
        ended = part(container, "state", "terminated")
        if container.get("name") == CONTAINER_NAME and ended.get("message"):
            yield str(ended["message"])
