"""`spec.service`, `spec.ingress`, `spec.auth` and `spec.network`: how clients reach the engines, and which may."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel
from vllm_operator.api.spec.core import NetworkPolicyPeer, SecretKey
from vllm_operator.api.spec.scalars import ATOMIC, Annotations, HostName, ObjectName

DEFAULT_SERVICE_PORT: Final = 8000


class Service(Model):
    """The Service that clients call."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "!has(self.nodePort) || self.type != 'ClusterIP'",
                "spec.service.nodePort needs spec.service.type NodePort or LoadBalancer: a ClusterIP has no port on "
                "the nodes",
                field_path=".nodePort",
            )
        ),
    )

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        default="ClusterIP", description="Whether it is reached from inside the cluster only."
    )
    annotations: Annotations | None = Field(
        default=None, description="Annotations of the Service, such as those that a load balancer reads."
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=DEFAULT_SERVICE_PORT, description="Port of the Service, whatever port the server has in its pod."
    )
    node_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="Port of every node that leads to the Service, out of the cluster's range for these, by default "
        "30000 to 32767. No two Services of the cluster have the same. Default: the cluster chooses one, and keeps it.",
    )
    target_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="Port of the pods that both Services lead to, where a sidecar takes the requests and hands them on "
        "to the engine. Default: engine.port.",
    )
    app_protocol: Literal["http", "https"] | None = Field(
        default=None,
        description="What such a sidecar speaks with clients, whom the binding gives a URL of this kind. Default: what "
        "the server itself speaks, https with engine.tls.",
    )


class IngressTls(Model):
    """The certificate with which the Ingress speaks https."""

    secret_name: ObjectName | None = Field(
        default=None, description="Secret with it. Default: the certificate that the Ingress controller has by itself."
    )


class Ingress(Model):
    """The way in from outside of the cluster by the name of a host: an Ingress, which a controller follows."""

    host: HostName = Field(
        description="Name under which clients come from outside, such as `llm.example.com`. All its paths lead to the "
        "model."
    )
    class_name: ObjectName | None = Field(
        default=None, description="Which controller follows it, by its IngressClass. Default: that of the cluster."
    )
    annotations: Annotations | None = Field(
        default=None,
        description="Annotations that the controller reads. Answers are streams that may take minutes: mind its time "
        "limits and its buffers. With engine.tls tell it to speak https with the Service.",
    )
    tls: IngressTls | None = Field(default=None, description="Have the controller speak https. Default: http.")


class Auth(Model):
    """API keys. vLLM asks for them under /v1 and /v2 only; spec.network guards the rest."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "(has(self.generate) && self.generate) || has(self.keys)",
                "spec.auth needs generate: true, or keys, or both",
            )
        ),
    )

    generate: bool | None = Field(
        default=None,
        description="Have the operator make a key. It lies in the binding's Secret as VLLM_API_KEY; where that "
        "Secret is deleted, a new one is made and the engines are replaced.",
    )
    keys: Annotated[list[SecretKey], Field(min_length=1, max_length=8)] | None = Field(
        default=None,
        description="Keys that are there already. The engines take them all, so that one can be replaced while "
        "clients still use another. The binding tells clients the generated one, or else the first of these, once "
        "every engine takes it. The Secrets are looked at every minute; where a key has changed, the engines are "
        "replaced. Several keys need vLLM 0.10.2.",
        json_schema_extra=ATOMIC,
    )


class Network(Model):
    """Who may call the engines: a NetworkPolicy."""

    allow_from: Annotated[list[NetworkPolicyPeer], Field(max_length=32)] = Field(
        description="Who may call the engines; everybody else may not, Prometheus included. An empty list means "
        "nobody. The managers' port (spec.gates.port) is also open for the model's other engines and for the operator.",
        json_schema_extra=ATOMIC,
    )
