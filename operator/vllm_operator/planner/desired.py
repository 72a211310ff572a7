"""What shall be there for a model: its children, with the pods and the numbers of a rollout that were chosen. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vllm_operator.api.live import key_of
from vllm_operator.planner import api_keys, autoscaling, changes, rollout, template, workload
from vllm_operator.planner.engines import engines, pod_bodies
from vllm_operator.planner.rollout_seen import Seen
from vllm_operator.planner.rollout_told import RolloutView
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

    def writes(self, observation: Observation) -> tuple[Write, ...]:
        """A write for each child that is not as it shall be.

        How often the Deployment has been written is counted by what is rendered: the numbers that lead its controller
        follow from what is there, so what does not stick may change them with every write. Where all that was written
        last is there, other numbers are the rollout's next step, which never waits.
        """
        found = changes.writes(self.children, observation.children)
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
        claims_of_others=observation.claims.of_others,
        one_node_claims=observation.claims.on_one_node,
    )
    rendered, choice = _rendered(model, context, observation)
    view = _rollout(model, rendered, choice, observation)
    found = _desired(model, rendered, choice, view)
    rolling = keys.running_old or not api_keys.engines_are_current(observation)
    if not keys.held or rolling or any(map(makes_engines, found.writes(observation))):
        return found
    rendered, choice = _rendered(model, replace(context, api_key=keys.next_key or ""), observation)
    return _desired(model, rendered, choice, view)


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
) -> tuple[Sequence[Mapping[str, Any]], Choice]:
    """The children as they are rendered, but for pods that are kept."""
    rendered = remembered_children(model, context)
    choice = template.chosen(model, observation, rendered)
    return template.with_chosen(model, rendered, choice, observation.release), choice


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
