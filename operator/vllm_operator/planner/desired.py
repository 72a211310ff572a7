"""What shall be there for a model: its children, with the pods and the numbers of a rollout that were chosen. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vllm_operator.api.live import key_of
from vllm_operator.planner import (
    adapters,
    api_keys,
    autoscaling,
    changes,
    prefetch,
    queues,
    rollout,
    template,
    workload,
)
from vllm_operator.planner.engines import engines, pod_bodies
from vllm_operator.planner.rollout_seen import Seen
from vllm_operator.planner.rollout_told import RolloutView
from vllm_operator.render.catalog import served_adapters
from vllm_operator.render.children import remembered_children
from vllm_operator.render.context import RenderContext
from vllm_operator.render.groups import placed
from vllm_operator.render.objects import deployment_of, hash_of
from vllm_operator.render.rollout import exclusion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.planner.api_keys import Standing
    from vllm_operator.planner.plan import Observation, Write
    from vllm_operator.planner.template import Choice


@dataclass(frozen=True, slots=True)
class Desired:
    """The children, and how those came about that depend on what is there."""

    children: Sequence[Mapping[str, Any]]
    """The children as they shall be now."""
    rendered: Mapping[str, Any]
    """The Deployment as the spec and the kept pods have it, with the numbers of one at rest."""
    deployment: Mapping[str, Any]
    """The Deployment as it shall be now, also where a LeaderWorkerSet is made of it."""
    choice: Choice
    """Which pods were chosen."""
    view: RolloutView
    """How the engines are replaced."""
    withheld: bool = False
    """Whether what makes engines is not to be written now, since their pods would find no model."""

    def writes(self, observation: Observation) -> tuple[Write, ...]:
        """A write for each child that is not as it shall be.

        How often the Deployment has been written is counted by what is rendered: the numbers that lead its controller
        follow from what is there, so what does not stick may change them with every write. Where all that was written
        last is there, other numbers are the rollout's next step, which never waits.
        """
        children = [child for child in self.children if not self.withheld or child["kind"] not in workload.KINDS]
        found = changes.writes(children, observation.children)
        return tuple(self._counted(write, observation) if is_deployment(write) else write for write in found)

    def _counted(self, write: Write, observation: Observation) -> Write:
        live = observation.children.get(key_of(self.rendered))
        step = live is not None and rollout.is_as_written(live.body, self.rendered)
        return replace(write, counted_by=hash_of(self.rendered), step=step)


def desired(model: VLLMModel, observation: Observation, keys: Standing) -> Desired:
    """What shall be there for a model now.

    The binding goes on to the next API key once no engine is left that takes another.

    Raises:
        InvalidSpec: the spec's patch of the pods does not fit them.
    """
    context = RenderContext(
        api_key=keys.client_key,
        key_record=keys.record,
        keys_changed_at=keys.mark,
        operator_namespace=observation.operator_namespace,
        release=observation.release,
        pod_monitors=observation.pod_monitors,
        groups_left=workload.are_groups_left(observation),
        **autoscaling.context_of(model, observation),
        adapters=adapters.seen_adapters(model, observation).listed,
        served_adapters=tuple(served_adapters(observation.raw)),
        claims_of_others=observation.claims.of_others,
        one_node_claims=observation.claims.on_one_node,
    )
    rendered, choice, withheld = _rendered(model, context, observation)
    view = _rollout(model, rendered, choice, observation)
    found = replace(_desired(model, rendered, choice, view), withheld=withheld)
    rolling = keys.running_old or not api_keys.engines_are_current(observation)
    if not keys.held or rolling or any(map(makes_engines, found.writes(observation))):
        return found
    rendered, choice, withheld = _rendered(model, replace(context, api_key=keys.next_key or ""), observation)
    return replace(_desired(model, rendered, choice, view), withheld=withheld)


def makes_engines(write: Write) -> bool:
    """Whether it is the Deployment that is written, or the LeaderWorkerSet."""
    return write.desired["kind"] in workload.KINDS


def is_deployment(write: Write) -> bool:
    """Whether it is the Deployment that is written."""
    return bool(write.desired["kind"] == "Deployment")


def _desired(model: VLLMModel, rendered: Sequence[Mapping[str, Any]], choice: Choice, view: RolloutView) -> Desired:
    deployment = deployment_of(rendered)
    led = rollout.applied(deployment, view.planned)
    children = [led if child is deployment else child for child in rendered]
    return Desired(placed(model, children), deployment, led, choice, view)


def _rendered(
    model: VLLMModel, context: RenderContext, observation: Observation
) -> tuple[Sequence[Mapping[str, Any]], Choice, bool]:
    """The children as they are rendered, but for pods that are kept; and whether the Deployment is to wait.

    While a claim is filled for a changed spec, the pods of before stay; where there are none, there is no Deployment.
    """
    rendered = [_in_queue(child, model, observation) for child in remembered_children(model, context)]
    waits = prefetch.waits(model, observation)
    held = template.held(model, observation, rendered) if waits else None
    choice = held or template.chosen(model, observation, rendered)
    return template.with_chosen(model, rendered, choice, observation.release), choice, waits and held is None


def _in_queue(child: Mapping[str, Any], model: VLLMModel, observation: Observation) -> Mapping[str, Any]:
    """A child; where it makes engines, in the queue in which it has to be for now."""
    if child["kind"] != "Deployment":
        return child
    live = workload.live_of_spec(model, observation)
    return queues.with_queue(child, live.body if live else None, kueue=observation.kueue)


def _rollout(
    model: VLLMModel, rendered: Sequence[Mapping[str, Any]], choice: Choice, observation: Observation
) -> RolloutView:
    """How the engines are replaced, if they are to be."""
    deployment = deployment_of(rendered)
    live = workload.live_workload(observation)
    pods = workload.serving_pods(pod_bodies(observation))
    seen = Seen.of(live.body, pods, engines(observation)) if live else None
    excluded = exclusion(model.spec.storage, deployment["spec"]["template"], observation.claims.on_one_node)
    return RolloutView(
        model=model.name,
        planned=workload.planned_of_groups(deployment, model.spec.rollout)
        if model.spec.parallelism.group_size > 1
        else rollout.planned(deployment, seen, model.spec.rollout, excluded=excluded, now=observation.now),
        seen=seen,
        excluded=excluded,
        revision=choice.revisions[0]["metadata"]["name"],
        told=observation.raw.get("status", {}).get("rollout"),
    )
