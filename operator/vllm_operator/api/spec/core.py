"""Parts that are written as in a pod: selectors, references, tolerations, affinity, security contexts."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, OpenModel, Rule, cel, exactly_one
from vllm_operator.api.spec.scalars import (
    ATOMIC,
    DataKey,
    LabelKey,
    LabelName,
    Labels,
    LabelValue,
    ObjectName,
    Quantity,
    ResourceName,
    Text,
)


class SecretKey(Model):
    """One key of a Secret in the model's namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: DataKey = Field(description="Key in the Secret's data.")


class OptionalSecretKey(SecretKey):
    """One key of a Secret in the model's namespace, which may be missing."""

    optional: bool | None = Field(default=None, description="Whether the engine starts without it.")


class OptionalKey(Model):
    """One key of a Secret or ConfigMap in the model's namespace."""

    name: ObjectName = Field(description="Name of the object.")
    key: DataKey = Field(description="Key in the object's data.")
    optional: bool | None = Field(default=None, description="Whether the engine starts without it.")


class ConfigMapKey(Model):
    """One key of a ConfigMap in the model's namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap.")
    key: DataKey = Field(description="Key in the ConfigMap's data.")


class PodField(Model):
    """A field of the engine's pod."""

    api_version: Text | None = Field(default=None, description="Version of the schema that the path is written in.")
    field_path: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="Path of the field, such as `status.podIP`."
    )


class ContainerResource(Model):
    """A resource of a container of the engine's pod."""

    container_name: LabelName | None = Field(default=None, description="Container; the engine's own if not set.")
    resource: ResourceName = Field(description="Resource, such as `limits.memory`.")
    divisor: Quantity | None = Field(default=None, description="Unit in which the value is given.")


class EnvVarSource(Model):
    """Where the value of a variable comes from."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            exactly_one("valueFrom", "secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef")
        ),
    )

    secret_key_ref: OptionalKey | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: OptionalKey | None = Field(default=None, description="A key of a ConfigMap.")
    field_ref: PodField | None = Field(default=None, description="A field of the pod.")
    resource_field_ref: ContainerResource | None = Field(default=None, description="A resource of a container.")


class EnvVar(Model):
    """An environment variable of the engine."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "!(has(self.value) && has(self.valueFrom))",
                "a variable of spec.engine.env has either value or valueFrom, not both",
            ),
            Rule(
                "self.name != 'VLLM_DEBUG'",
                "spec.engine.env must not set VLLM_DEBUG: vLLM has no such variable; set spec.engine.debug",
                field_path=".name",
            ),
        ),
    )

    name: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")] = (
        Field(description="Name of the variable.")
    )
    value: Annotated[str, StringConstraints(max_length=32768)] | None = Field(
        default=None, description="Value of the variable; `$(NAME)` refers to a variable defined before it."
    )
    value_from: EnvVarSource | None = Field(default=None, description="Where its value comes from instead.")


class ObjectReference(Model):
    """A Secret or ConfigMap in the model's namespace."""

    name: ObjectName = Field(description="Name of the object.")
    optional: bool | None = Field(default=None, description="Whether the engine starts without it.")


class EnvFromSource(Model):
    """An object whose keys all become variables."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "has(self.secretRef) != has(self.configMapRef)",
                "an item of spec.engine.envFrom takes exactly one of secretRef and configMapRef",
            )
        ),
    )

    prefix: Text | None = Field(default=None, description="Put before each key.")
    secret_ref: ObjectReference | None = Field(default=None, description="A Secret.")
    config_map_ref: ObjectReference | None = Field(default=None, description="A ConfigMap.")


Values = Annotated[list[Text], Field(max_length=64)]

_HAS_VALUES: Final = "has(self.values) && self.values.size() > 0"


class LabelRequirement(Model):
    """One condition on labels."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                f"(self.operator in ['In', 'NotIn']) == ({_HAS_VALUES})",
                "a condition on labels needs values with In and NotIn, and takes none with Exists and DoesNotExist",
                field_path=".values",
            )
        ),
    )

    key: LabelKey = Field(description="Label that the condition is about.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How the label is compared.")
    values: Annotated[list[LabelValue], Field(max_length=64)] | None = Field(
        default=None, description="Values to compare with, for In and NotIn.", json_schema_extra=ATOMIC
    )


class LabelSelector(Model):
    """Which objects are meant, by their labels. An empty selector means all."""

    match_labels: Labels | None = Field(default=None, description="Labels that an object must have.")
    match_expressions: Annotated[list[LabelRequirement], Field(max_length=32)] | None = Field(
        default=None, description="Further conditions; all must hold.", json_schema_extra=ATOMIC
    )


class Toleration(Model):
    """A taint of nodes that the engines accept."""

    key: LabelKey | None = Field(default=None, description="Key of the taint; every key if not set.")
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="How the value is compared (Equal).")
    value: LabelValue | None = Field(default=None, description="Value of the taint, for Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; every effect if not set."
    )
    toleration_seconds: int | None = Field(
        default=None, description="How long a pod stays on a node with a NoExecute taint; for ever if not set."
    )


class NodeRequirement(Model):
    """One condition on a node."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                f"self.operator in ['Exists', 'DoesNotExist'] ? !({_HAS_VALUES}) : ({_HAS_VALUES})"
                " && (self.operator in ['In', 'NotIn'] || self.values.size() == 1)",
                "a condition on a node needs values with In and NotIn, one with Gt and Lt, and takes none with Exists "
                "and DoesNotExist",
                field_path=".values",
            )
        ),
    )

    key: LabelKey = Field(description="Label or field of the node.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(description="How it is compared.")
    values: Values | None = Field(default=None, description="Values to compare with.", json_schema_extra=ATOMIC)


NodeRequirements = Annotated[list[NodeRequirement], Field(max_length=32)]


class NodeSelectorTerm(Model):
    """Conditions that must hold together."""

    match_expressions: NodeRequirements | None = Field(
        default=None, description="Conditions on the node's labels.", json_schema_extra=ATOMIC
    )
    match_fields: NodeRequirements | None = Field(
        default=None, description="Conditions on the node's fields.", json_schema_extra=ATOMIC
    )


class NodeSelector(Model):
    """Terms of which one must hold."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(min_length=1, max_length=32)] = Field(
        description="Terms of which one must hold.", json_schema_extra=ATOMIC
    )


Weight = Annotated[int, Field(ge=1, le=100)]


class PreferredNode(Model):
    """A wish for nodes."""

    weight: Weight = Field(description="How much the wish counts, 1 to 100.")
    preference: NodeSelectorTerm = Field(description="Nodes that are wished for.")


class NodeAffinity(Model):
    """Which nodes the engines go to."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = Field(
        default=None, description="What a node must have."
    )
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredNode], Field(max_length=32)] | None
    ) = Field(default=None, description="What a node should have.", json_schema_extra=ATOMIC)


class PodAffinityTerm(Model):
    """Pods that an engine goes to, or keeps away from."""

    topology_key: LabelKey = Field(description="Label of nodes that says what counts as the same place.")
    label_selector: LabelSelector | None = Field(default=None, description="Pods that are meant.")
    namespaces: Annotated[list[LabelName], Field(max_length=64)] | None = Field(
        default=None, description="Namespaces of those pods; the model's own if not set.", json_schema_extra=ATOMIC
    )
    namespace_selector: LabelSelector | None = Field(default=None, description="Namespaces of those pods, by label.")


class PreferredPodAffinityTerm(Model):
    """A wish about other pods."""

    weight: Weight = Field(description="How much the wish counts, 1 to 100.")
    pod_affinity_term: PodAffinityTerm = Field(description="Pods that the wish is about.")


class PodAffinity(Model):
    """Which pods the engines go to, or keep away from."""

    required_during_scheduling_ignored_during_execution: (
        Annotated[list[PodAffinityTerm], Field(max_length=32)] | None
    ) = Field(default=None, description="What must hold.", json_schema_extra=ATOMIC)
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredPodAffinityTerm], Field(max_length=32)] | None
    ) = Field(default=None, description="What should hold.", json_schema_extra=ATOMIC)


class Affinity(Model):
    """Where the engines go, with regard to nodes and to other pods."""

    node_affinity: NodeAffinity | None = Field(default=None, description="Which nodes the engines go to.")
    pod_affinity: PodAffinity | None = Field(default=None, description="Which pods the engines go to.")
    pod_anti_affinity: PodAffinity | None = Field(default=None, description="Which pods the engines keep away from.")


class TopologySpreadConstraint(Model):
    """How the engines are spread over nodes or zones."""

    max_skew: Annotated[int, Field(ge=1, le=1000)] = Field(description="Most by which two places may differ.")
    topology_key: LabelKey = Field(description="Label of nodes that says what counts as the same place.")
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        description="What happens where the constraint cannot be met."
    )
    label_selector: LabelSelector | None = Field(
        default=None, description="Pods that are counted; the engines of this model if not set."
    )
    min_domains: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Fewest places to spread over, with DoNotSchedule."
    )
    node_affinity_policy: Literal["Honor", "Ignore"] | None = Field(
        default=None, description="Whether nodes that the engines cannot use are left out."
    )
    node_taints_policy: Literal["Honor", "Ignore"] | None = Field(
        default=None, description="Whether nodes with taints that are not tolerated are left out."
    )
    match_label_keys: Annotated[list[LabelKey], Field(max_length=16)] | None = Field(
        default=None,
        description="Labels of the pods whose values are added to the selector.",
        json_schema_extra=ATOMIC,
    )


class SeccompProfile(Model):
    """Which system calls are allowed."""

    type: Literal["RuntimeDefault", "Localhost", "Unconfined"] = Field(description="Kind of the profile.")
    localhost_profile: Text | None = Field(default=None, description="File of the profile on the node, for Localhost.")


class SELinuxOptions(Model):
    """SELinux label of a container."""

    user: Text | None = Field(default=None, description="SELinux user.")
    role: Text | None = Field(default=None, description="SELinux role.")
    type: Text | None = Field(default=None, description="SELinux type.")
    level: Text | None = Field(default=None, description="SELinux level.")


class Sysctl(Model):
    """A kernel parameter of the pod."""

    name: Text = Field(description="Name of the parameter.")
    value: Text = Field(description="Value of the parameter.")


UserId = Annotated[int, Field(ge=0, le=2147483647)]


class PodSecurityContext(Model):
    """Rights of the whole pod. What is set replaces the operator's choice; the rest stays."""

    run_as_user: UserId | None = Field(default=None, description="User id of the processes (2000).")
    run_as_group: UserId | None = Field(default=None, description="Group id of the processes (0).")
    run_as_non_root: bool | None = Field(default=None, description="Refuse to run as root (true).")
    fs_group: UserId | None = Field(default=None, description="Group id of the volumes (0).")
    fs_group_change_policy: Literal["OnRootMismatch", "Always"] | None = Field(
        default=None, description="When the group of a volume's files is changed (OnRootMismatch)."
    )
    supplemental_groups: Annotated[list[UserId], Field(max_length=32)] | None = Field(
        default=None, description="Further group ids of the processes.", json_schema_extra=ATOMIC
    )
    seccomp_profile: SeccompProfile | None = Field(default=None, description="System calls (RuntimeDefault).")
    se_linux_options: SELinuxOptions | None = Field(default=None, description="SELinux label.")
    sysctls: Annotated[list[Sysctl], Field(max_length=32)] | None = Field(
        default=None, description="Kernel parameters of the pod.", json_schema_extra=ATOMIC
    )


Capabilities_ = Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=64)]], Field(max_length=64)]


class Capabilities(Model):
    """Capabilities of a process."""

    add: Capabilities_ | None = Field(default=None, description="Capabilities to add.", json_schema_extra=ATOMIC)
    drop: Capabilities_ | None = Field(default=None, description="Capabilities to drop.", json_schema_extra=ATOMIC)


class SecurityContext(Model):
    """Rights of the engine's container. What is set replaces the operator's choice; the rest stays."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "!has(self.privileged) || !self.privileged || !has(self.allowPrivilegeEscalation)"
                " || self.allowPrivilegeEscalation",
                "spec.pod.containerSecurityContext.allowPrivilegeEscalation cannot be false where privileged is true",
                field_path=".allowPrivilegeEscalation",
            )
        ),
    )

    allow_privilege_escalation: bool | None = Field(default=None, description="Whether it may gain rights (false).")
    privileged: bool | None = Field(default=None, description="Whether it has all rights on its node.")
    read_only_root_filesystem: bool | None = Field(
        default=None, description="Whether its image is read-only; /tmp and the home are not."
    )
    capabilities: Capabilities | None = Field(default=None, description="Capabilities (all dropped).")
    run_as_user: UserId | None = Field(default=None, description="User id of the processes.")
    run_as_group: UserId | None = Field(default=None, description="Group id of the processes.")
    run_as_non_root: bool | None = Field(default=None, description="Refuse to run as root.")
    seccomp_profile: SeccompProfile | None = Field(default=None, description="System calls.")
    se_linux_options: SELinuxOptions | None = Field(default=None, description="SELinux label.")


class Volume(OpenModel):
    """A volume, as in a pod."""

    name: LabelName = Field(description="Name of the volume.")


class VolumeMount(Model):
    """Where a container finds a volume."""

    name: LabelName = Field(description="Name of the volume.")
    mount_path: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^/[^:]*$")] = Field(
        description="Folder in the container."
    )
    sub_path: Text | None = Field(default=None, description="Folder in the volume.")
    read_only: bool | None = Field(default=None, description="Whether the container cannot write to it.")


class Container(OpenModel):
    """A container, as in a pod."""

    name: LabelName = Field(description="Name of the container.")
    image: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^\S+$")] = Field(
        description="Image of the container."
    )


class LocalObjectReference(Model):
    """An object in the model's namespace."""

    name: ObjectName = Field(description="Name of the object.")


class IPBlock(Model):
    """A range of addresses."""

    cidr: Annotated[str, StringConstraints(max_length=64, pattern=r"^[0-9a-fA-F:.]+/[0-9]{1,3}$")] = Field(
        description="The range, such as `10.0.0.0/8`."
    )
    except_: (
        Annotated[
            list[Annotated[str, StringConstraints(max_length=64, pattern=r"^[0-9a-fA-F:.]+/[0-9]{1,3}$")]],
            Field(max_length=64),
        ]
        | None
    ) = Field(default=None, alias="except", description="Parts of it that are not meant.", json_schema_extra=ATOMIC)


class NetworkPolicyPeer(Model):
    """Who may call."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "has(self.ipBlock) ? !(has(self.podSelector) || has(self.namespaceSelector))"
                " : has(self.podSelector) || has(self.namespaceSelector)",
                "an item of spec.network.allowFrom takes podSelector, namespaceSelector or both, or ipBlock alone",
            )
        ),
    )

    pod_selector: LabelSelector | None = Field(
        default=None, description="Pods that may call: of the model's namespace, or of those that are selected beside."
    )
    namespace_selector: LabelSelector | None = Field(default=None, description="Namespaces whose pods may call.")
    ip_block: IPBlock | None = Field(default=None, description="Addresses that may call.")
