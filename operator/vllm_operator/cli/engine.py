"""An engine as its pod is rendered, without Kubernetes: words and variables with every reference resolved.

Everything is read off the finished pod, so that a command line or a Compose file cannot say anything else than the pod.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from vllm_operator.api import names
from vllm_operator.cli.podshape import shape_faults
from vllm_operator.errors import InvalidSpec
from vllm_operator.render.deployment import deployment
from vllm_operator.render.environment import KEY_VARIABLE, key_variables, of_the_manager
from vllm_operator.render.manager import alone
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from vllm_operator.api.resource import VLLMModel

_REFERENCE: Final = re.compile(r"\$(\$|\([^)]*\)|)")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Outside:
    """A variable whose value only a cluster knows: whoever starts the engine elsewhere has to set it."""

    name: str
    origin: str
    """Where its value is, for people."""
    optional: bool = False
    """Whether the engine starts without it."""


def names_outside(variables: Iterable[Outside]) -> dict[Outside, str]:
    """A name for each that shells and Compose can use; those of a pod may hold `.` and `-`, and two may meet."""
    chosen: dict[Outside, str] = {}
    for variable in variables:
        name = re.sub(r"[^A-Za-z0-9_]", "_", variable.name)
        while name in chosen.values():
            name += "_"
        chosen.setdefault(variable, name)
    return chosen


Text: TypeAlias = "tuple[str | Outside, ...]"
"""A text, some parts of which are not known here."""


@dataclass(frozen=True, slots=True)
class Source:
    """A Secret or ConfigMap whose keys all become variables."""

    kind: str
    name: str
    prefix: str
    optional: bool


ONE_KEY_ALONE: Final = (
    "only the first key of spec.auth is used: vLLM takes several as arguments alone, where everybody who sees the "
    "processes of the machine can read them"
)
"""What to tell where several keys are asked for and there is no manager to hide them."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine."""

    model: VLLMModel
    pod: Mapping[str, Any]
    container: Mapping[str, Any]
    stem: tuple[Text, ...]
    """The manager's command line, up to where the engine's begins."""
    words: tuple[Text, ...]
    """The engine's command line."""
    variables: Mapping[str, Text]
    """The engine's environment."""
    sources: tuple[Source, ...]
    """Where further variables come from."""

    @property
    def leaves_keys_out(self) -> bool:
        """Whether the spec asks for more API keys than one."""
        return len(key_variables(self.model.spec)) > 1

    def bare(self) -> Engine:
        """The engine as people start it by hand: without the manager, which alone can hide several API keys."""
        hidden = key_variables(self.model.spec)[1:]
        variables = {name: text for name, text in self.variables.items() if name not in hidden}
        return replace(self, stem=(), variables=variables)

    @property
    def outside(self) -> tuple[Outside, ...]:
        """Variables that have to be set, each once."""
        texts = [*self.variables.values(), *self.stem, *self.words]
        return tuple(dict.fromkeys(part for text in texts for part in text if isinstance(part, Outside)))


def engine_of(model: VLLMModel) -> Engine:
    """The engine of a model.

    Raises:
        InvalidSpec: what the spec says of the pod itself cannot be followed.
    """
    model = _without_prefetch(_with_fixed_adapters(model))
    pod: dict[str, Any] = deployment(model)["spec"]["template"]["spec"]
    faults = "; ".join(shape_faults(pod))
    if faults:
        raise InvalidSpec([f"spec.pod makes a pod that no API server takes: {faults}"])
    container = next(one for one in pod["containers"] if one["name"] == CONTAINER_NAME)
    sources = tuple(map(_source, container.get("envFrom", [])))
    variables: dict[str, Text] = {}
    for variable in container.get("env", []):
        variables[variable["name"]] = _value(variable, variables, sources, model)
    told = {name: text for name, text in variables.items() if name not in _of_a_pod_alone(model)}
    stem, words = (container.get(field, []) for field in ("command", "args"))
    return Engine(
        model=model,
        pod=pod,
        container=container,
        stem=tuple(expanded(word, variables, sources) for word in alone(stem)),
        words=tuple(expanded(word, variables, sources) for word in words),
        variables=told,
        sources=sources,
    )


def _with_fixed_adapters(model: VLLMModel) -> VLLMModel:
    """The model with its adapters on the command line: outside of a cluster nobody tells an engine of others."""
    if not model.spec.updates_adapters:
        return model
    lora = model.spec.lora.model_copy(update={"runtime_updates": False}) if model.spec.lora else None
    return replace(model, spec=model.spec.model_copy(update={"lora": lora}))


def _without_prefetch(model: VLLMModel) -> VLLMModel:
    """The model as it is served where no Job fills a claim: the engine downloads by itself."""
    cache = model.spec.storage.cache
    if cache is None or cache.prefetch is None:
        return model
    storage = model.spec.storage.model_copy(update={"cache": cache.model_copy(update={"prefetch": None})})
    return replace(model, spec=model.spec.model_copy(update={"storage": storage}))


def _of_a_pod_alone(model: VLLMModel) -> set[str]:
    """Variables that the manager reads in a pod, and that the user has not made the engine's."""
    given = {variable.name for variable in model.spec.engine.env or []}
    return {variable["name"] for variable in of_the_manager(model.spec)} - given


def expanded(text: str, variables: Mapping[str, Text], sources: Sequence[Source] = ()) -> Text:
    """The text as kubelet hands it to the process.

    `$(NAME)` is the value of a variable, `$$` a dollar sign; what is no reference to a known variable stays as it is.
    """
    return _joined(_parts(text, variables, sources))


def _parts(text: str, variables: Mapping[str, Text], sources: Sequence[Source]) -> Iterator[str | Outside]:
    end = 0
    for found in _REFERENCE.finditer(text):
        yield text[end : found.start()]
        end = found.end()
        name = found[1][1:-1]
        if not found[1].startswith("("):
            yield "$"
        elif name in variables:
            yield from variables[name]
        elif sources and _VARIABLE.fullmatch(name):
            yield Outside(name, "a key of " + " or ".join(f"{one.kind} {one.name}" for one in sources))
        else:
            yield found[0]
    yield text[end:]


def _joined(parts: Iterator[str | Outside]) -> Text:
    joined: list[str | Outside] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return tuple(joined)


def _value(
    variable: Mapping[str, Any], earlier: Mapping[str, Text], sources: Sequence[Source], model: VLLMModel
) -> Text:
    origin: Mapping[str, Any] = variable.get("valueFrom") or {}
    if not origin:
        return expanded(variable.get("value") or "", earlier, sources)
    kind, reference = next(iter(origin.items()))
    told = _ORIGINS.get(kind, kind).format(**{"name": "", "key": "", "fieldPath": "", "resource": "", **reference})
    if variable["name"] == KEY_VARIABLE and reference.get("name") == names.binding_name(model.instance):
        told = "an API key of your choice, which in a cluster the operator makes"
    return (Outside(variable["name"], told, optional=bool(reference.get("optional"))),)


_ORIGINS: Final = {
    "secretKeyRef": "key {key} of Secret {name}",
    "configMapKeyRef": "key {key} of ConfigMap {name}",
    "fieldRef": "field {fieldPath} of the pod",
    "resourceFieldRef": "{resource} of the container",
}


def _source(source: Mapping[str, Any]) -> Source:
    kind, reference = ("Secret", "secretRef") if "secretRef" in source else ("ConfigMap", "configMapRef")
    named = source.get(reference) or {}
    return Source(kind, named.get("name", ""), source.get("prefix", ""), bool(named.get("optional")))
