"""Which pod template the engines of a model have: the one that is kept for its spec, or the one that is rendered now.

A template reaches engines only where the user asks for it: by a change of what the spec asks of the pods, by a restart,
by a rollback to another revision of the same spec, or by `spec.rollout.templateUpdates: Automatic`. Otherwise the
template of the current revision stays, whatever this version of the operator would render. A revision that comes back
has the very pods of before, with the restart that they were marked with: those that still run are not replaced.

A Deployment without a revision, as earlier versions of the operator made it, or whose revision was deleted, keeps the
template that it has. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names, revisions
from vllm_operator.api.conditions import ConditionType, Reason, by_type
from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import DESIRED_HASH, KEYS_CHANGED_AT, POD_SPEC_HASH
from vllm_operator.api.revisions import CHANGE_CAUSE, HANDLED_AT, RESTARTED_AT, ROLLED_BACK_TO, Revision, Rollback
from vllm_operator.planner.compare import same
from vllm_operator.planner.owners import belongs, controlled_by, is_orphan
from vllm_operator.planner.reasons import reason
from vllm_operator.planner.workload import live_workload
from vllm_operator.render.files import config_of
from vllm_operator.render.objects import deployment_of, hashed
from vllm_operator.render.release import child_of, template_of
from vllm_operator.render.revision import revision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vllm_operator.api.live import LiveObject
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.planner.plan import Observation, Plan

_NOT_FOLLOWED: Final = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.NAME_TAKEN,
        Reason.CHILD_REFUSED,
        Reason.CHILD_NOT_WRITTEN,
        Reason.PREFETCHING,
        Reason.PREFETCH_FAILS,
    }
)
"""Reasons of a status whose spec may not have reached the Deployment."""


_LONGEST_SHOWN: Final = 64


@dataclass(frozen=True, slots=True)
class Pods:
    """A pod template, without the operator's marks, and the files that its pods read out of the model's ConfigMap."""

    template: Mapping[str, Any]
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which pods the engines have now, and what is remembered of it."""

    pods: Pods
    marks: Mapping[str, str]
    """Annotations of the pods that depend on what happened: changed keys, a restart."""
    spec_hash: str
    """Hash of what the spec asked of the pods, for the Deployment."""
    handled_at: str
    """Up to when restarts and rollbacks are followed, where the mark of the restart does not say so; else empty."""
    revisions: tuple[Mapping[str, Any], ...]
    """ControllerRevisions as they shall be, the current one first."""
    superseded: tuple[LiveObject, ...]
    """ControllerRevisions that go."""
    pending: str = ""
    """In what the template that would be rendered now differs; empty where it does not."""
    warning: str = ""
    """What is wrong with what the user asked for; empty where nothing is."""


def chosen(model: VLLMModel, observation: Observation, rendered: Sequence[Mapping[str, Any]]) -> Choice:
    """Choose the pods of a model, whose children are rendered as this version of the operator does."""
    now = _pods_of(rendered)
    history = _History.of(observation)
    spec = observation.raw["spec"]
    kept = history.newest(spec)
    adopted = None if kept else _adopted(observation, history, now)
    automatic = model.spec.rollout.template_updates == "Automatic"
    request = history.request(observation, rendered, adopted=adopted is not None)
    if request.back_to is not None and not automatic:
        kept = request.back_to
    pods = now if automatic or request.restart else _pods(kept) or adopted or now
    if kept is not None and not _same(pods, _pods(kept)):
        kept = history.newest(spec, pods)
    pods = _pods(kept) or pods
    restarted_at = request.restarted_at if request.restart or kept is None else kept.restarted_at
    handled_at = request.at if revisions.is_later(request.at, restarted_at) else ""
    annotations = {CHANGE_CAUSE: _cause(observation, kept), RESTARTED_AT: restarted_at, HANDLED_AT: handled_at}
    if kept is not None:
        name, data = kept.name, history.objects[kept.name].body["data"]
    else:
        data = revisions.data_of(spec, pods.template, pods.config)
        name = revisions.revision_name(model.instance, data)
    keys_changed_at = _annotation(_template(rendered), KEYS_CHANGED_AT)
    return Choice(
        pods=pods,
        marks={KEYS_CHANGED_AT: keys_changed_at, RESTARTED_AT: restarted_at},
        spec_hash=revisions.written_hash(data["spec"]),
        handled_at=handled_at,
        revisions=(revision(model, name, data, history.number(kept), annotations), *history.orphans(model, name)),
        superseded=history.superseded(name, model.spec.rollout.revision_history_limit),
        pending=_difference(pods, now),
        warning=request.warning,
    )


def held(model: VLLMModel, observation: Observation, rendered: Sequence[Mapping[str, Any]]) -> Choice | None:
    """The pods that the engines have, for as long as those of the spec may not start; None where there are none.

    A restart that is asked for meanwhile is followed when they may.
    """
    history = _History.of(observation)
    if _live_deployment(observation) is None or not history.entries:
        return None
    kept = history.entries[0]
    handled_at = kept.handled_at if revisions.is_later(kept.handled_at, kept.restarted_at) else ""
    annotations = {CHANGE_CAUSE: kept.cause, RESTARTED_AT: kept.restarted_at, HANDLED_AT: handled_at}
    data = history.objects[kept.name].body["data"]
    keys_changed_at = _annotation(_template(rendered), KEYS_CHANGED_AT)
    return Choice(
        pods=Pods(kept.template, kept.config),
        marks={KEYS_CHANGED_AT: keys_changed_at, RESTARTED_AT: kept.restarted_at},
        spec_hash=revisions.written_hash(kept.spec),
        handled_at=handled_at,
        revisions=(revision(model, kept.name, data, kept.number, annotations),),
        superseded=(),
    )


def with_chosen(
    model: VLLMModel, rendered: Sequence[Mapping[str, Any]], choice: Choice, release: str = ""
) -> list[Mapping[str, Any]]:
    """The children with the chosen pods: their Deployment, their ConfigMap and their revisions.

    What is rendered is this release's already.
    """
    config = config_of(model, choice.pods.config) if choice.pods.config else None
    key = None if config is None else (config["kind"], config["metadata"]["name"])
    rest = [child for child in rendered if (child["kind"], child["metadata"]["name"]) != key]
    found = [_deployment(child, choice, release) if child["kind"] == "Deployment" else child for child in rest]
    return [*(child_of(release, one) for one in (*choice.revisions, *([config] if config else []))), *found]


def needs_managed_fields(observation: Observation) -> bool:
    """Whether it has to be asked whose the fields of the live Deployment are: its template is to be adopted."""
    if observation.model is None or observation.model.leaving:
        return False
    history, spec = _History.of(observation), observation.raw.get("spec")
    return isinstance(spec, dict) and history.newest(spec) is None and _is_adoptable(observation, history)


def is_pending(observation: Observation, plan: Plan) -> bool:
    """Whether a model's status says, or is about to say, that a pod template waits for the user."""
    if observation.model is None:
        return False
    status = observation.model.status if plan.status is None else plan.status
    return by_type(status).get(ConditionType.TEMPLATE_UPDATE_PENDING, {}).get("status") == "True"


@dataclass(frozen=True, slots=True)
class _Request:
    """What was last asked for beside the spec."""

    at: str
    """When, in RFC 3339; empty where nothing ever was."""
    restarted_at: str
    """When a restart was last asked for, by whatever way."""
    restart: bool
    """Whether it is a restart that no revision has been made for yet."""
    back_to: Revision | None
    """The revision that is to be the current one again; None where that was not asked for, or is done."""
    warning: str = ""


@dataclass(frozen=True, slots=True)
class _History:
    """The live revisions of this very model, the current one first."""

    objects: Mapping[str, LiveObject]
    """By name, also those that hold no revision."""
    entries: tuple[Revision, ...]
    orphaned: frozenset[str]
    """Names of those that have lost their owner, as in a restored backup."""

    @classmethod
    def of(cls, observation: Observation) -> _History:
        model = observation.model
        uid, name = (model.uid, model.name) if model else ("", "")
        live = [one for one in observation.children.values() if one.kind == revisions.KIND and not one.leaving]
        release = observation.release
        orphaned = {one.name for one in live if is_orphan(name, one, release)}
        objects = {one.name: one for one in live if one.name in orphaned or controlled_by(uid, one)}
        found = revisions.revisions_of(one.body for one in objects.values())
        # one that was handed over by another release shows no difference but those that a user asked for
        entries = (replace(entry, template=template_of(release, entry.template)) for entry in found)
        return cls(objects, tuple(entries), frozenset(orphaned))

    def newest(self, spec: Mapping[str, Any], pods: Pods | None = None) -> Revision | None:
        """The newest revision that asks for the same pods as a spec; given `pods`, one that has these."""
        return next(
            (
                entry
                for entry in self.entries
                if revisions.same_pods(entry.spec, spec) and (pods is None or _same(_pods(entry), pods))
            ),
            None,
        )

    def request(self, observation: Observation, rendered: Sequence[Mapping[str, Any]], *, adopted: bool) -> _Request:
        """What was asked for on the model, on the live Deployment by `kubectl rollout restart`, or in the spec."""
        annotations = observation.raw["metadata"].get("annotations") or {}
        wanted, rollback = annotations.get(RESTARTED_AT, ""), Rollback.of(annotations)
        live = revisions.restart_of(_live_template(observation))
        made = revisions.latest([*(entry.restarted_at for entry in self.entries), *([live] if adopted else [])])
        handled = revisions.latest([made, *(entry.handled_at for entry in self.entries)])
        restarted_at = revisions.latest([wanted, live, made, revisions.restart_of(_template(rendered))])
        undone_at = rollback.at if rollback else ""
        last = revisions.latest([handled, restarted_at, undone_at])
        undone = rollback is not None and last == undone_at and revisions.is_later(undone_at, handled)
        return _Request(
            at=last,
            restarted_at=restarted_at,
            restart=not undone and revisions.is_later(restarted_at, handled),
            back_to=self._named(rollback.revision, observation.raw["spec"]) if rollback and undone else None,
            warning=_warning(wanted, annotations),
        )

    def _named(self, name: str, spec: Mapping[str, Any]) -> Revision | None:
        found = (entry for entry in self.entries if entry.name == name and revisions.same_pods(entry.spec, spec))
        return next(found, None)

    def number(self, kept: Revision | None) -> int:
        """The number of the current revision: a kept one keeps its own as long as it is the current one already."""
        current = self.entries[0] if self.entries else None
        if current is None:
            return 1
        return current.number if kept is current else current.number + 1

    def superseded(self, current: str, limit: int) -> tuple[LiveObject, ...]:
        """What is beyond the limit of the history, and what looks like a revision and holds none."""
        others = [entry.name for entry in self.entries if entry.name != current]
        kept = {current, *others[:limit]}
        return tuple(live for name, live in sorted(self.objects.items()) if name not in kept)

    def orphans(self, model: VLLMModel, current: str) -> Iterable[Mapping[str, Any]]:
        """Earlier revisions that get their owner back; the others stay as they are."""
        for entry in self.entries:
            if entry.name in self.orphaned and entry.name != current:
                handled_at = entry.handled_at if entry.handled_at != entry.restarted_at else ""
                annotations = {CHANGE_CAUSE: entry.cause, RESTARTED_AT: entry.restarted_at, HANDLED_AT: handled_at}
                data = self.objects[entry.name].body["data"]
                yield revision(model, entry.name, data, entry.number, annotations)


def _warning(restart: str, annotations: Mapping[str, str]) -> str:
    if restart and not revisions.is_time(restart):
        told = f"metadata.annotations[{RESTARTED_AT}] is no time in RFC 3339, so nothing is restarted"
        return f"{told}: {restart[:_LONGEST_SHOWN]}"
    if Rollback.of(annotations) is None:
        told = f"metadata.annotations[{ROLLED_BACK_TO}] is no time in RFC 3339 with the name of a revision behind it"
        return f"{told}, so nothing is rolled back: {annotations[ROLLED_BACK_TO][:_LONGEST_SHOWN]}"
    return ""


def _cause(observation: Observation, kept: Revision | None) -> str:
    """Why the current revision is there: what the model says, as of a Deployment, or what was said when it was made."""
    told = observation.raw["metadata"].get("annotations", {}).get(CHANGE_CAUSE, "")
    return told or (kept.cause if kept else "")


def _adopted(observation: Observation, history: _History, rendered: Pods) -> Pods | None:
    """The pods that the live Deployment has, where they are the spec's and no revision says so."""
    if not _is_adoptable(observation, history):
        return None
    applied = observation.applied_template
    live = revisions.unmarked(_live_template(observation) if applied is None else applied)
    template = template_of(observation.release, live)
    found = Pods(template, _live_config(observation, template))
    return rendered if _same(found, rendered) else found


def _is_adoptable(observation: Observation, history: _History) -> bool:
    """Whether the live Deployment was made for the spec of now.

    Earlier versions of the operator left no mark of what spec it was made for; but the status says up to which
    generation of the model they had followed the spec.
    """
    live = _live_deployment(observation)
    if live is None:
        return False
    made_for = live.annotations.get(POD_SPEC_HASH)
    if made_for is not None:
        return made_for == revisions.written_hash(observation.raw["spec"])
    return not history.entries and _is_followed(observation.raw)


def _is_followed(raw: Mapping[str, Any]) -> bool:
    """Whether the status says that the children are as this generation of the spec wants them."""
    status = raw.get("status") or {}
    same_generation = status.get("observedGeneration") == raw["metadata"].get("generation")
    return same_generation and by_type(status).get(ConditionType.READY, {}).get("reason") not in _NOT_FOLLOWED


def _live_deployment(observation: Observation) -> LiveObject | None:
    metadata = observation.raw["metadata"]
    live = live_workload(observation)
    return live if live is not None and belongs(metadata["name"], live, observation.release) else None


def _live_template(observation: Observation) -> Mapping[str, Any]:
    live = _live_deployment(observation)
    return live.body["spec"]["template"] if live else {}


def _live_config(observation: Observation, template: Mapping[str, Any]) -> Mapping[str, str]:
    """The files that the pods of a template read out of the model's ConfigMap."""
    name = names.config_name(names.instance_name(observation.raw["metadata"]["name"]))
    live = observation.children.get(ObjectKey("ConfigMap", name))
    volumes = (template.get("spec") or {}).get("volumes") or ()
    mounted = any((volume.get("configMap") or {}).get("name") == name for volume in volumes)
    return live.body.get("data") or {} if mounted and live is not None else {}


def _pods(kept: Revision | None) -> Pods | None:
    return Pods(kept.template, kept.config) if kept else None


def _pods_of(rendered: Sequence[Mapping[str, Any]]) -> Pods:
    """The pods as they are rendered now."""
    template = revisions.unmarked(_template(rendered))
    name = names.config_name(deployment_of(rendered)["metadata"]["name"])
    configs = (child for child in rendered if (child["kind"], child["metadata"]["name"]) == ("ConfigMap", name))
    return Pods(template, next((child["data"] for child in configs), {}))


def _template(rendered: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = deployment_of(rendered)["spec"]["template"]
    return found


def _annotation(template: Mapping[str, Any], name: str) -> str:
    return str((template["metadata"].get("annotations") or {}).get(name, ""))


def _same(one: Pods | None, other: Pods | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.config == other.config and same(_placed(one.template), _placed(other.template))


def _difference(kept: Pods, rendered: Pods) -> str:
    """In what pods that are rendered now differ from those that are kept, in words; empty where they do not."""
    if _same(kept, rendered):
        return ""
    template = _placed(kept.template), _placed(rendered.template)
    told = [reason(*template)] if not same(*template) else []
    if kept.config != rendered.config:
        told.append("the files of the model's ConfigMap")
    return ", ".join(told)


def _placed(template: Mapping[str, Any]) -> dict[str, Any]:
    """A template in its place, by which its fields are known."""
    return {"spec": {"template": template}}


def _deployment(rendered: Mapping[str, Any], choice: Choice, release: str) -> dict[str, Any]:
    """The Deployment with the chosen pods. Its hash is one of what it is then, and not of what was rendered."""
    metadata = rendered["metadata"]
    annotations = {name: text for name, text in (metadata.get("annotations") or {}).items() if name != DESIRED_HASH}
    annotations[POD_SPEC_HASH] = choice.spec_hash
    if choice.handled_at:
        annotations[HANDLED_AT] = choice.handled_at
    spec = {**rendered["spec"], "template": revisions.marked(choice.pods.template, choice.marks)}
    return child_of(release, hashed({**rendered, "metadata": {**metadata, "annotations": annotations}, "spec": spec}))
