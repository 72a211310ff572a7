"""`spec.service`, `spec.auth` and `spec.network`: how clients reach the engines, and which may."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel
from vllm_operator.api.spec.core import NetworkPolicyPeer, SecretKey
from vllm_operator.api.spec.scalars import ATOMIC, Annotations

DEFAULT_SERVICE_PORT: Final = 8000


class Service(Model):
    """The Service that clients call."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        default="ClusterIP", description="Whether it is reached from inside the cluster only."
    )
    annotations: Annotations | None = Field(
        default=None, description="Annotations of the Service, such as those that a load balancer reads."
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=DEFAULT_SERVICE_PORT, description="Port of the Service, whatever port the server has in its pod."
    )
    target_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="Port of the pods that both Services lead to, where a sidecar takes the requests and hands them on "
        "to the engine. Default: engine.port.",
    )


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
