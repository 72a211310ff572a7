"""Kubernetes manifests: the pods in them that serve models, and what stands beside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.api.meta import GROUP
from vllm_operator.cli.importing import scaling
from vllm_operator.cli.importing.draft import schema_at
from vllm_operator.cli.importing.workload import Workload, fit_name
from vllm_operator.cli.schema import faults
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.cli.importing.draft import Draft

WORKLOADS: Final = frozenset(
    {
        "Deployment",
        "StatefulSet",
        "ReplicaSet",
        "DaemonSet",
        "Pod",
        "Job",
        "Rollout",
        "LeaderWorkerSet",
        "DeploymentConfig",
    }
)


@dataclass(slots=True)
class Bundle:
    """The documents of one input."""

    documents: list[dict[str, Any]] = field(default_factory=list)

    def of_kind(self, *kinds: str) -> list[dict[str, Any]]:
        """The documents of some kinds."""
        return [one for one in self.documents if one.get("kind") in kinds]


def bundle_of(values: list[Any]) -> Bundle:
    """The documents, those in Lists taken out."""
    found: list[dict[str, Any]] = []
    for value in values:
        if isinstance(value, dict):
            inner = value.get("objects" if value.get("kind") == "Template" else "items")
            found += [one for one in inner if isinstance(one, dict)] if isinstance(inner, list) else [value]
    return Bundle(found)


def name_of(document: Mapping[str, Any]) -> str:
    """Name of an object."""
    return str(part(document, "metadata").get("name") or part(document, "metadata").get("generateName") or "").strip(
        "-"
    )


def ingress_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """An Ingress of one host as `spec.ingress` has it."""
    spec = part(document, "spec")
    annotations = {
        str(key): str(value)
        for key, value in part(document, "metadata", "annotations").items()
        if not str(key).startswith(("kubectl.kubernetes.io/", "meta.helm.sh/", GROUP))
    }
    found: dict[str, Any] = {"host": str((items(spec, "rules") or [{}])[0].get("host") or "")}
    if spec.get("ingressClassName"):
        found["className"] = spec["ingressClassName"]
    if annotations:
        found["annotations"] = annotations
    secrets = items(spec, "tls")
    if secrets:
        name = secrets[0].get("secretName")
        found["tls"] = {"secretName": name} if name else {}
    return found


def is_simple(document: Mapping[str, Any]) -> bool:
    """Whether an Ingress leads one host, with all its paths, to one place."""
    rules = items(document, "spec", "rules")
    paths = [path for rule in rules for path in items(rule, "http", "paths")]
    return len(rules) == 1 and bool(rules[0].get("host")) and [path.get("path", "/") for path in paths] == ["/"]


def workloads(bundle: Bundle) -> Iterator[Workload]:
    """Every pod of the documents, whatever it runs."""
    config_maps = {name_of(one): dict(part(one, "data")) for one in bundle.of_kind("ConfigMap")}
    for document in bundle.documents:
        kind = str(document.get("kind"))
        if kind not in WORKLOADS:
            continue
        template = _template(document)
        if not items(template, "spec", "containers"):
            continue
        spec = part(document, "spec")
        claims = {
            str(part(one, "metadata").get("name")): dict(part(one, "spec"))
            for one in items(spec, "volumeClaimTemplates")
        }
        replicas = spec.get("replicas")
        yield Workload(
            f"{kind} {name_of(document)}",
            name=fit_name(name_of(document)),
            namespace=str(part(document, "metadata").get("namespace") or ""),
            template=template,
            replicas=replicas if isinstance(replicas, int) and not isinstance(replicas, bool) else None,
            pods=_size_of_groups(spec),
            selector={str(key): str(value) for key, value in part(spec, "selector", "matchLabels").items()}
            or (
                {str(key): str(value) for key, value in part(document, "metadata", "labels").items()}
                if kind == "Pod"
                else {}
            ),
            config_maps=config_maps,
            claims=claims,
        )


def _size_of_groups(spec: Mapping[str, Any]) -> int:
    size = part(spec, "leaderWorkerTemplate").get("size")
    return size if isinstance(size, int) and size > 1 else 1


def _template(document: Mapping[str, Any]) -> dict[str, Any]:
    if document.get("kind") == "Pod":
        return {"metadata": dict(part(document, "metadata")), "spec": dict(part(document, "spec"))}
    leader = part(document, "spec", "leaderWorkerTemplate")
    if leader:
        found = part(leader, "leaderTemplate") or part(leader, "workerTemplate")
        return {"metadata": dict(part(found, "metadata")), "spec": dict(part(found, "spec"))}
    template = part(document, "spec", "template")
    return {"metadata": dict(part(template, "metadata")), "spec": dict(part(template, "spec"))}


def read_queue(document: Mapping[str, Any], draft: Draft) -> None:
    """The queue of Kueue that a workload waits in."""
    draft.put(("scheduling", "queueName"), part(document, "metadata", "labels").get(names.QUEUE))


def read_workload_fields(document: Mapping[str, Any], draft: Draft) -> None:
    """What a workload says beside its pod."""
    spec, kind = part(document, "spec"), document.get("kind")
    strategy = part(spec, "strategy")
    if strategy.get("type") == "Recreate":
        draft.put(("rollout", "strategy"), "Recreate")
    elif part(strategy, "rollingUpdate").get("maxSurge") in (0, "0", "0%"):
        draft.put(("rollout", "strategy"), "InPlace")
    if spec.get("paused") is True:
        draft.put(("rollout", "paused"), value=True)
    if kind == "DaemonSet":
        draft.lost("an engine on each node (DaemonSet): spec.replicas says how many there are")
    if kind == "LeaderWorkerSet":
        _read_groups(spec, draft)
    if kind == "Job":
        draft.note("a Job ends: a VLLMModel serves until it is deleted")
    if kind == "StatefulSet":
        draft.note(
            "pods of a StatefulSet have names of their own: those of a VLLMModel are found by the Service NAME-engines"
        )


def _read_groups(spec: Mapping[str, Any], draft: Draft) -> None:
    """What a LeaderWorkerSet says of its groups. The operator makes one again, where they have several pods."""
    leader = part(spec, "leaderWorkerTemplate")
    policy = leader.get("restartPolicy")
    if draft.pods > 1 and policy not in (None, "RecreateGroupOnPodRestart", "Default"):
        draft.note(f"restartPolicy {policy}: a group of which a pod has ended is made anew as a whole", "parallelism")
    surge = part(spec, "rolloutStrategy", "rollingUpdateConfiguration").get("maxSurge")
    if surge not in (None, 0, "0", "0%"):
        draft.put(("rollout", "strategy"), "Surge")
    if draft.pods > 1:
        _tell_labels_of_leader(leader, draft)
        own, other = part(leader, "leaderTemplate", "spec"), part(leader, "workerTemplate", "spec")
        if own and _placing(own) != _placing(other):
            draft.check("leader and workers are placed on nodes otherwise: here all pods of a group are as the leader")
    elif leader:
        draft.note("groups of one pod need no LeaderWorkerSet: a Deployment is made")


def _tell_labels_of_leader(template: Mapping[str, Any], draft: Draft) -> None:
    """Say which labels only the leader had: here all pods of a group have the same ones."""
    leader, worker = (part(template, name, "metadata", "labels") for name in ("leaderTemplate", "workerTemplate"))
    alone = [f"{name}={value}" for name, value in leader.items() if worker.get(name) != value]
    if alone:
        draft.note(f"labels of the leader alone are on all pods of a group here: {', '.join(alone)}", "pod", "labels")


def _placing(pod: Mapping[str, Any]) -> tuple[Any, ...]:
    """Where a pod may run, and with what resources its engine."""
    limits = [part(one, "resources", "limits") for one in items(pod, "containers")[:1]]
    return (pod.get("nodeSelector"), pod.get("affinity"), pod.get("tolerations"), limits)


_UNSAID_OF_SERVICE: Final = (
    *("sessionAffinity", "externalTrafficPolicy", "loadBalancerIP", "loadBalancerSourceRanges", "externalIPs"),
)


class Neighbours:
    """What stands beside a workload, read into its draft."""

    def __init__(self, bundle: Bundle, workload: Workload, draft: Draft) -> None:
        self._bundle = bundle
        self._workload = workload
        self._draft = draft
        self._labels = {str(key): str(value) for key, value in part(workload.template, "metadata", "labels").items()}
        if workload.origin.startswith("LeaderWorkerSet "):  # its controller sets these on the leader
            prefix = "leaderworkerset.sigs.k8s.io"
            self._labels |= {f"{prefix}/name": workload.origin.partition(" ")[2], f"{prefix}/worker-index": "0"}

    def read(self) -> None:
        """Read all documents that belong to the workload's pods."""
        for document in self._bundle.documents:
            handler = {
                "Service": self._service,
                "HorizontalPodAutoscaler": self._autoscaler,
                "ScaledObject": self._autoscaler,
                "PodDisruptionBudget": self._disruption,
                "NetworkPolicy": self._network,
                "ServiceMonitor": self._monitor,
                "PodMonitor": self._monitor,
                "PodMonitoring": self._monitor,
                "Ingress": self._route,
                "HTTPRoute": self._route,
                "Route": self._route,
                "VirtualService": self._route,
                "Gateway": self._ignored,
            }.get(str(document.get("kind")), self._ignored)
            handler(document)

    def _selects(self, selector: Mapping[str, Any]) -> bool:
        return bool(selector) and all(self._labels.get(str(key)) == str(value) for key, value in selector.items())

    def _service(self, document: Mapping[str, Any]) -> None:
        spec, draft, name = part(document, "spec"), self._draft, name_of(document)
        if not self._selects(part(spec, "selector")):
            return
        if spec.get("clusterIP") == "None":
            if name != f"{draft.name}-engines":
                draft.note(f"the headless Service {name}: {draft.name}-engines leads to the single engines")
            return
        chosen = self._chosen_port(name, items(spec, "ports"))
        if isinstance(chosen.get("port"), int):
            draft.put(("service", "port"), chosen["port"])
        if str(spec.get("type")) in {"NodePort", "LoadBalancer"}:
            draft.put(("service", "type"), spec["type"])
            self._node_port(name, chosen.get("nodePort"))
        self._target(name, chosen.get("targetPort", chosen.get("port")))
        annotations = {
            str(key): str(value)
            for key, value in part(document, "metadata", "annotations").items()
            if not str(key).startswith(("kubectl.kubernetes.io/", "meta.helm.sh/"))
        }
        draft.put(("service", "annotations"), annotations)
        for key in _UNSAID_OF_SERVICE:
            if spec.get(key) not in (None, "None", "Cluster", []):
                draft.lost(f"{key} of the Service {name}: the model's Service has no such setting", "service")
        if name and name != draft.name:
            draft.note(
                f"clients find the model at http://{draft.name}:{chosen.get('port', 8000)}, and no longer at the "
                f"Service {name}"
            )

    def _node_port(self, name: str, number: Any) -> None:
        """A port of the nodes that the Service has fixed: only one Service of a cluster has it."""
        if not number:
            return
        if any(faults(schema_at(("service", "nodePort")), number, "")):
            self._draft.lost(f"nodePort {number} of the Service {name}: is no port", "service")
            return
        self._draft.put(("service", "nodePort"), number)
        self._draft.note(
            f"no two Services have the same nodePort: delete the Service {name} when you change over, and the model's "
            f"own gets {number}",
            "service",
        )

    def _chosen_port(self, name: str, ports: list[Mapping[str, Any]]) -> Mapping[str, Any]:
        """The port of a Service that leads to the engine; what becomes of the others is told."""
        chosen = next((port for port in ports if self._leads_to_engine(port)), ports[0] if ports else {})
        for port in ports:
            if port is not chosen and port.get("port") != chosen.get("port"):
                told = f"port {port.get('port')} of the Service {name}: the model's Service has one port"
                tell = self._draft.lost if self._leads_to_somebody(port) else self._draft.note
                tell(told, "service")
        return chosen

    def _leads_to_somebody(self, port: Mapping[str, Any]) -> bool:
        """Whether a container of the pod says that it listens where a port of the Service leads to."""
        target = port.get("targetPort", port.get("port"))
        containers = items(self._workload.template, "spec", "containers")
        listened = [own for one in containers for own in items(one, "ports")]
        return any(target in (own.get("containerPort"), own.get("name")) for own in listened)

    def _target(self, name: str, target: Any) -> None:
        """Where a Service leads: to the engine, or to a sidecar before it."""
        engine_port = self._draft.get("engine", "port") or 8000
        if not isinstance(target, int) or target == engine_port:
            return
        if any(target == one.get("containerPort") for other in self._sidecars() for one in items(other, "ports")):
            self._draft.put(("service", "targetPort"), target)
        else:
            self._tell_target(f"the Service {name} leads to port {target}, and the engine listens at {engine_port}")

    def _tell_target(self, told: str) -> None:
        """A port at which nothing is said to listen: a container beside the engine may, without one it leads astray."""
        if self._sidecars():
            self._draft.check(told, "service")
        else:
            self._draft.note(f"{told}: the model's Service leads there", "service")

    def _sidecars(self) -> list[Mapping[str, Any]]:
        containers = items(self._workload.template, "spec", "containers")
        return [one for one in containers if one is not self._workload.container]

    def _leads_to_engine(self, port: Mapping[str, Any]) -> bool:
        target = port.get("targetPort", port.get("port"))
        engine_port = self._draft.get("engine", "port") or 8000
        own = items(self._workload.container, "ports")
        return target == engine_port or any(
            target == one.get("name") and one.get("containerPort") == engine_port for one in own
        )

    def _is_target(self, document: Mapping[str, Any]) -> bool:
        target = part(document, "spec", "scaleTargetRef")
        return bool(target) and f"{target.get('kind', 'Deployment')} {target.get('name')}" == self._workload.origin

    def _autoscaler(self, document: Mapping[str, Any]) -> None:
        if not self._is_target(document):
            return
        kind, name = str(document.get("kind")), name_of(document)
        read = scaling.of_scaled_object if kind == "ScaledObject" else scaling.of_horizontal_pod_autoscaler
        found = read(part(document, "spec"))
        place = f" --namespace {self._draft.namespace}" if self._draft.namespace else ""
        if found and self._draft.pods == 1:
            scaling.write(self._draft, found)
            self._draft.note(f"the {kind} {name}: spec.autoscaling makes one instead", "autoscaling")
            scaling.tell_unsaid(self._draft, part(document, "spec"))
            self._draft.steps.append(f"kubectl delete {kind.lower()} {name}{place}")
            return
        reference = f'{{"apiVersion":"vllm.echo-roots.io/v1alpha1","kind":"VLLMModel","name":"{self._draft.name}"}}'
        self._draft.steps.append(
            f"kubectl patch {kind.lower()} {name}{place} --type merge --patch "
            f'\'{{"spec":{{"scaleTargetRef":{reference}}}}}\''
        )
        self._draft.note(f"the {kind} {name} stays: it has to scale the VLLMModel", "replicas")

    def _disruption(self, document: Mapping[str, Any]) -> None:
        spec = part(document, "spec")
        if not self._selects(part(spec, "selector", "matchLabels")):
            return
        for key in ("minAvailable", "maxUnavailable"):
            self._draft.put(("disruption", key), spec.get(key))

    def _network(self, document: Mapping[str, Any]) -> None:
        spec = part(document, "spec")
        if not self._selects(part(spec, "podSelector", "matchLabels")):
            return
        if spec.get("egress"):
            self._draft.lost(
                f"egress of the NetworkPolicy {name_of(document)}: spec.network says who may call", "network"
            )
        peers = [dict(peer) for rule in items(spec, "ingress") for peer in items(rule, "from")]
        if peers:
            self._draft.put(("network", "allowFrom"), peers)
            self._draft.note(
                f"the NetworkPolicy {name_of(document)} selects the old pods: spec.network stands in for it", "network"
            )

    def _monitor(self, document: Mapping[str, Any]) -> None:
        spec = part(document, "spec")
        selector = part(spec, "selector", "matchLabels")
        services = [
            one
            for one in self._bundle.of_kind("Service")
            if all(part(one, "metadata", "labels").get(key) == value for key, value in selector.items())
            and self._selects(part(one, "spec", "selector"))
        ]
        if not (services or self._selects(selector)):
            return
        endpoints = [*items(spec, "endpoints"), *items(spec, "podMetricsEndpoints")]
        interval = str(endpoints[0].get("interval") or "") if endpoints else ""
        self._draft.put_empty("monitoring")
        if interval.endswith("s") and interval[:-1].isdigit():
            self._draft.put(("monitoring", "intervalSeconds"), int(interval[:-1]))
        labels = {
            str(key): str(value)
            for key, value in part(document, "metadata", "labels").items()
            if key in {"release", "prometheus"}
        }
        self._draft.put(("monitoring", "labels"), labels)
        self._draft.note(
            f"the {document.get('kind')} {name_of(document)}: spec.monitoring makes a PodMonitor instead", "monitoring"
        )

    def _route(self, document: Mapping[str, Any]) -> None:
        services = {
            name_of(one) for one in self._bundle.of_kind("Service") if self._selects(part(one, "spec", "selector"))
        }
        text = str(document.get("spec"))
        if not any(repr(name) in text for name in services) or self._draft.name in services:
            return
        kind, name = document.get("kind"), name_of(document)
        if kind == "Ingress" and schema_at(("ingress",)) and is_simple(document) and not self._draft.get("ingress"):
            self._draft.put(("ingress",), ingress_of(document))
            self._draft.note(f"the Ingress {name}: spec.ingress makes one instead", "ingress")
            return
        self._draft.check(
            f"the {document.get('kind')} {name_of(document)} leads to the old Service: let it lead to the Service "
            f"{self._draft.name}",
            "service",
        )

    def _ignored(self, document: Mapping[str, Any]) -> None:
        """What stays as it is, and is used by its name: Secrets, ConfigMaps, claims, service accounts, namespaces."""
