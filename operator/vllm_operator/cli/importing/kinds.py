"""Which form an input has, and how each form is read."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.meta import KIND
from vllm_operator.api.resource import parse_resource
from vllm_operator.cli.importing import compose, docker, helm, kubeai, manifests, program
from vllm_operator.cli.importing.arguments import model_in, name_in
from vllm_operator.cli.importing.compose_extends import Extended, extended
from vllm_operator.cli.importing.config_file import config_files, with_config_file
from vllm_operator.cli.importing.devices import tell_shared
from vllm_operator.cli.importing.draft import Draft, NotImportableError
from vllm_operator.cli.importing.loops import are_replicas, unrolled, without_own_port
from vllm_operator.cli.importing.manifests import Bundle
from vllm_operator.cli.importing.parts import PodParts
from vllm_operator.cli.importing.pod import PodReader
from vllm_operator.cli.importing.program import Launch
from vllm_operator.cli.importing.rendered import Undone, is_rendered, read_device_classes, read_policies
from vllm_operator.cli.importing.rendered_machine import (
    command_workload,
    complete_service,
    engines_of_one_model,
    is_rendered_command,
    is_rendered_service,
    places_not_told,
)
from vllm_operator.cli.importing.secrets import Vault
from vllm_operator.cli.importing.serving import Serving
from vllm_operator.cli.importing.shell import ShellError, behind_keywords, escaped, mark, parsed, shown
from vllm_operator.cli.importing.starters import started
from vllm_operator.cli.importing.variables import expanded, plain_variables
from vllm_operator.cli.importing.workload import Workload, fit_model_name, fit_name, texts
from vllm_operator.cli.yaml_documents import NotYAMLError, documents
from vllm_operator.errors import InvalidSpec
from vllm_operator.render.deployment import deployment
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.cli.importing.shell import Statement


class Kind(StrEnum):
    """Forms that are read."""

    AUTO = "auto"
    COMMAND = "command"
    DOCKER = "docker"
    COMPOSE = "compose"
    MANIFESTS = "manifests"
    HELM = "helm"
    KUBEAI = "kubeai"


@dataclass(slots=True)
class Request:
    """What is to be read, and what the caller says of it."""

    text: str = ""
    words: list[str] = field(default_factory=list)
    """A command line in its words, instead of a text."""
    kind: Kind = Kind.AUTO
    name: str = ""
    namespace: str = ""
    values: dict[str, str] = field(default_factory=dict)
    """Variables that the caller fills in."""


@dataclass(slots=True)
class Import:
    """What came of reading."""

    drafts: list[Draft] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is no model, and is not carried over for that."""
    vault: Vault = field(default_factory=Vault)


def read(request: Request) -> Import:
    """Every model of the input.

    Raises:
        NotImportableError: there is none, or the input cannot be read.
    """
    result = Import()
    if request.words:
        _commands([request.words], request, result)
    else:
        _text(request, result)
    if not result.drafts:
        told = "; ".join(result.notes)
        raise NotImportableError(f"nothing here starts vLLM{f': {told}' if told else ''}")
    if request.name and len(result.drafts) > 1:
        raise NotImportableError(f"--name is for one model, and here are {len(result.drafts)}")
    _distinct(result.drafts)
    tell_shared(result.drafts)
    return result


def _distinct(drafts: list[Draft]) -> None:
    """Give each model a name of its own."""
    seen: set[tuple[str, str]] = set()
    for draft in drafts:
        base, number = draft.name, 2
        while (draft.namespace, draft.name) in seen:
            draft.name, number = f"{base}-{number}", number + 1
        seen.add((draft.namespace, draft.name))


_YAML_LIKE: Final = re.compile(r"(?m)^(apiVersion|kind|services|servingEngineSpec|version|x-[a-z-]+|catalog|name)\s*:")


def _text(request: Request, result: Import) -> None:
    wanted = request.kind
    looks = bool(_YAML_LIKE.search(request.text)) or request.text.lstrip().startswith("{")
    if wanted in {Kind.COMMAND, Kind.DOCKER} or (wanted is Kind.AUTO and not looks):
        _script(request, result)
        return
    try:
        _yaml(request.text, request, result)
    except NotYAMLError as error:
        if wanted is Kind.AUTO and _HERE.search(request.text):
            _script(request, result)
            return
        hint = "; a Helm template has to be rendered first, by helm template" if "{{" in request.text else ""
        raise NotImportableError(f"{error}{hint}") from None
    if wanted is Kind.AUTO and not result.drafts and _HERE.search(request.text):
        _script(request, result)


_HERE: Final = re.compile(r"(?m)^[^\n#]*<<-?[ \t]*\\?[\"']?[A-Za-z_]")
"""Where a script holds a text behind `<<`."""


def _yaml(text: str, request: Request, result: Import) -> None:
    """Read every document of a file.

    Raises:
        NotYAMLError: it is none.
    """
    wanted = request.kind
    text = _TEMPLATE.sub(lambda found: request.values.get(found[1], found[0]), text)
    values = [one.value for one in documents(text)]
    for value in values:
        if wanted in {Kind.AUTO, Kind.COMPOSE} and compose.is_compose(value):
            _compose(value, request, result)
        elif wanted in {Kind.AUTO, Kind.HELM} and helm.is_values(value):
            _helm(value, request, result)
    _manifests(manifests.bundle_of(values), request, result)


_UNIT: Final = re.compile(r"(?m)^ExecStart=[-+!@:|]*((?:.*\\\n)*.*)$")
_UNIT_VARIABLE: Final = re.compile(r"(?m)^Environment=(.*)$")


def _of_unit(text: str) -> str:
    """The command of a systemd unit with its variables before it; any other text as it is."""
    found = _UNIT.search(text)
    if not found:
        return text
    return " ".join([*_UNIT_VARIABLE.findall(text), found[1]])


def _script(request: Request, result: Import) -> None:
    try:
        script = parsed(_of_unit(request.text), request.values)
    except ShellError as error:
        raise NotImportableError(f"this is neither YAML nor a command line: {error}") from None
    before = Draft()
    program.tell_mended(script, before)
    statements = [one for two in script.statements for one in started(two, request.values, _is_server)]
    written = [one.here for one in statements if _HERE_YAML.search(one.here)]
    lines = [behind_keywords(one.words) for one in statements]
    in_pods = bool(written) and not any(map(program.is_server, lines))
    on_a_host = in_pods or any(docker.docker_run(line) is not None for line in lines)
    for statement in statements:
        if _servers_of(statement, request, result, script.exported):
            program.tell_surroundings(statement, before)
        elif not on_a_host:  # what runs beside a container changes nothing within it
            program.tell(statement, before)
    if written:
        _written(written, request, result)
    for draft in result.drafts[:1]:
        draft.remarks += before.remarks
    if not result.drafts:
        heads = [shown(" ".join(statement.words))[:_LONGEST_TOLD] for statement in script.statements]
        result.notes += [f"`{head}` starts no vLLM that is known" for head in heads[:_MOST_TOLD]]


_HERE_YAML: Final = re.compile(r"(?m)^(kind:[ \t]*\w|services:|servingEngineSpec:)")


def _written(texts_here: list[str], request: Request, result: Import) -> None:
    """What a script writes into files, or hands to kubectl."""
    try:
        _yaml("\n---\n".join(texts_here), request, result)  # together: a Service is that of its Deployment
    except NotYAMLError as error:
        result.notes.append(f"the text behind `<<` {error}")


def _servers_of(statement: Statement, request: Request, result: Import, exported: Mapping[str, str]) -> bool:
    """Whether a command of a script has been read: a server, or as many as a loop over a list starts of them."""
    every, known = unrolled(statement), len(result.drafts)
    replicas = len(every) if are_replicas(every) else 1
    for one in [without_own_port(every[0])] if replicas > 1 else every:
        words = behind_keywords(one.words)
        line = [*(f"{name}={value}" for name, value in one.assigned.items()), *words]
        if not words or not _command(line, request, result, exported, one.comments):
            return False
    made = result.drafts[known:]
    if replicas > 1 and made:
        made[0].put(("replicas",), replicas)
        made[0].note(
            f"`for` in the script started {replicas} servers that differ in port and devices alone: replicas of one "
            "model, behind one Service",
            "replicas",
        )
    elif len(every) > 1 and made:
        made[0].note(f"`for` in the script: a model for each of its {len(every)} items")
    if len(every) > 1:
        statement.loop = ""  # it has been followed
    return True


def _is_server(words: Sequence[str]) -> bool:
    """Whether a command line starts a server, or a container."""
    return program.is_server(words) or docker.docker_run(words) is not None


_LONGEST_TOLD: Final = 60
_MOST_TOLD: Final = 3
"""Commands of a text that are named where none of them starts a server."""


def _commands(lines: list[list[str]], request: Request, result: Import) -> None:
    for line in lines:
        words = list(line)
        if len(words) == 1:
            request.text = words[0]
            _script(request, result)
        elif not _command(words, request, result, {}):
            result.notes.append(f"`{' '.join(words)[:60]}` is no command that is known")


def _command(
    words: list[str],
    request: Request,
    result: Import,
    exported: Mapping[str, str],
    comments: Sequence[str] = (),
) -> bool:
    """Whether a command line has been read: `docker run`, or the server itself."""
    draft = Draft(request.name, request.namespace)
    run = docker.docker_run(_behind_assignments(words))
    if run is not None:
        run = program.unconditional(run, draft)
        if not draft.name:
            draft.name = "vllm"
        container = docker.read_docker_run(run, draft)
        workload = container.workload()
        if _read(workload, draft, request, result, Bundle()) is None:
            result.notes.append(f"docker run {shown(container.image)} starts no vLLM, or names no model")
        return True
    launch = program.launch_in(words, draft, request.values)
    if launch is None:
        return False
    if is_rendered_command(comments, launch.variables):
        workload = command_workload(comments, launch.words, launch.variables)
        found = _read(workload, draft, request, result, Bundle())
        for path, content in places_not_told(comments, launch.words) if found else ():
            draft.check(
                f"{path} was there in the pod only, with {content}: say so in spec.model.chatTemplate or spec.pod"
            )
        return True
    env = [{"name": name, "value": value} for name, value in (dict(exported) | launch.variables).items()]
    workload = Workload(
        "vllm serve",
        template={"spec": {"containers": [{"name": "vllm", "command": ["vllm", "serve", *launch.words], "env": env}]}},
        on_a_machine=True,
    )
    _read(workload, draft, request, result, Bundle())
    return True


def _behind_assignments(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Za-z_]\w*=", words[0]):
        words = words[1:]
    return words


def _compose(value: Mapping[str, Any], request: Request, result: Import) -> None:
    raw = part(value, "services").values()
    rendered = any(is_rendered_service(one) for one in raw if isinstance(one, dict))
    filled = compose.interpolated(value, request.values, rendered=rendered)
    whole = extended({str(name): one for name, one in part(value, "services").items() if isinstance(one, dict)})
    services = {
        name: compose.interpolated(one.service, request.values, rendered=rendered) for name, one in whole.items()
    }
    if value.get("include"):
        result.notes.append("include: other files are not read; import what `docker compose config` writes")
    comments = [line.lstrip("# ") for line in request.text.splitlines() if line.startswith("#")]
    for name, engines in engines_of_one_model(services).items():
        service = services[engines[0]]
        draft = Draft(request.name, request.namespace)
        draft.name = draft.name or fit_name(name) or "vllm"
        own = is_rendered_service(service)
        if not own:
            _tell_absent(whole[engines[0]], request, draft)
        container = compose.read_service(name, service, Draft() if own else draft, filled)
        bundle = complete_service(container, service, part(filled, "configs"), comments) if own else Bundle()
        found = _read(container.workload(), draft, request, result, bundle)
        if found is None:
            seen = "vllm" in container.image.lower()
            why = f": {_why_unseen(container.image, container.entrypoint)}"
            result.notes.append(f"service {name}{why if seen else ' serves no model with vLLM'}")
            continue
        if len(engines) > 1:
            found.put(("suspend",), value=container.replicas == 0 or None)
            found.put(("replicas",), len(engines))


def _tell_absent(whole: Extended, request: Request, draft: Draft) -> None:
    """Say what a service of a Compose file takes from elsewhere: from other files, and from variables."""
    for told in whole.missing:
        draft.lost(f"{told}, which it extends, is not here: import what `docker compose config` writes")
    for name in compose.conditional(whole.service, request.values):
        told = f"what stands in ${{{name}:+...}} is left out: nobody has filled in ${{{name}}}"
        draft.check(f"{told}; --set {name}=VALUE has it where it is set")


def _helm(values: Mapping[str, Any], request: Request, result: Import) -> None:
    for model in helm.models_of(values):
        workload = helm.workload_of(values, model)
        draft = Draft(request.name or workload.name, request.namespace)
        found = _read(workload, draft, request, result, Bundle())
        if found:
            helm.tell(values, model, found)


def _manifests(bundle: Bundle, request: Request, result: Import) -> None:
    for document in bundle.documents:
        if document.get("kind") == KIND:
            result.notes.append(f"{KIND} {manifests.name_of(document)} is one already")
        elif kubeai.is_model(document):
            _kubeai(document, request, result)
        elif kubeai.is_inference_service(document):
            draft = Draft(request.name, request.namespace)
            runtimes = bundle.of_kind("ServingRuntime", "ClusterServingRuntime")
            _read(kubeai.service_workload(document, runtimes, draft), draft, request, result, bundle)
    by_origin = {f"{one.get('kind')} {manifests.name_of(one)}": one for one in bundle.documents}
    for workload in manifests.workloads(bundle):
        draft = Draft(request.name, request.namespace, pods=workload.pods)
        found = _read(workload, draft, request, result, bundle)
        if found is None:
            result.notes.append(_why_not(workload))
            continue
        manifests.read_queue(by_origin[workload.origin], found)
        if workload.rendered:
            read_policies(bundle, found)
            read_device_classes(bundle, found)
            _strategy(by_origin[workload.origin], found)
        else:
            manifests.read_workload_fields(by_origin[workload.origin], found)
            manifests.Neighbours(bundle, workload, found).read()


def _why_not(workload: Workload) -> str:
    """What to tell of a pod in which no server is seen."""
    for container in items(workload.template, "spec", "containers"):
        image = str(container.get("image") or "")
        if "vllm" in image.lower():
            return f"{workload.origin}: {_why_unseen(image, container.get('command'))}"
    return f"{workload.origin} serves no model with vLLM"


def _why_unseen(image: str, command: Any) -> str:
    """What to tell of an image of vLLM in which no server is seen, and of the command that it is given."""
    if _OWN_IMAGE.fullmatch(image.lower()) and not command:
        return "its arguments name no model (--model)"
    return "what its image starts stands in a script that is not here; import its command"


def _strategy(document: Mapping[str, Any], draft: Draft) -> None:
    """How the operator's own Deployment replaces its pods: the first setting of which the same would be rendered."""
    wanted = part(document, "spec", "strategy")
    replicas = draft.get("replicas")
    fewest = max(1 if replicas is None else replicas, 1) - int(part(wanted, "rollingUpdate").get("maxUnavailable") or 0)
    candidates: tuple[dict[str, Any], ...] = (
        {},
        {"strategy": "Surge"},
        {"strategy": "InPlace"},
        {"strategy": "InPlace", "minAvailable": fewest},
        {"strategy": "Recreate"},
        {"minAvailable": fewest},
    )
    for candidate in candidates:
        draft.spec.pop("rollout", None)
        draft.put(("rollout",), dict(candidate))
        if _rendered_strategy(draft) == wanted:
            return
    draft.spec.pop("rollout", None)


def _rendered_strategy(draft: Draft) -> Any:
    try:
        return deployment(parse_resource(draft.document()))["spec"]["strategy"]
    except InvalidSpec:
        return None


def _kubeai(document: Mapping[str, Any], request: Request, result: Import) -> None:
    engine = part(document, "spec").get("engine")
    if engine not in (None, "VLLM"):
        result.notes.append(f"Model {manifests.name_of(document)}: its engine is {engine}, and not vLLM")
        return
    draft = Draft(request.name, request.namespace)
    found = _read(kubeai.model_workload(document), draft, request, result, Bundle())
    if found:
        kubeai.tell_model(document, found)


def _read(workload: Workload, draft: Draft, request: Request, result: Import, bundle: Bundle) -> Draft | None:
    """Read a workload into its draft; None where it serves no model."""
    undone = _undone(workload, bundle)
    launch, elsewhere = _server(workload, draft, request)
    if launch is None:
        return None
    own_namespace = "" if workload.rendered and workload.namespace == _UNNAMED_NAMESPACE else workload.namespace
    draft.namespace = draft.namespace or own_namespace
    own_name = request.name or workload.name
    draft.name = own_name or fit_model_name(name_in(launch.words)) or "model"
    draft.put(("replicas",), workload.replicas)
    Serving(draft, result.vault, elsewhere, workload).read(launch.words)
    if undone:
        undone.write(draft)
    env = workload.container.setdefault("env", [])
    for name, value in launch.variables.items():
        if value != mark(name):
            env.append({"name": name, "value": value})
    PodReader(PodParts(workload, draft, result.vault)).read()
    if not draft.get("model", "source"):
        files = config_files(launch.words)
        draft.check(
            f"{shown(files[-1])} may name the model, and is not here: put it here"
            if files
            else "the arguments name no model",
            "model",
            "source",
        )
    result.drafts.append(draft)
    return draft


_UNNAMED_NAMESPACE: Final = "default"
"""Where `render` puts a model that names no namespace."""


def _undone(workload: Workload, bundle: Bundle) -> Undone | None:
    spec = workload.template["spec"]
    spec["containers"] = [dict(one) for one in items(spec, "containers")]
    for container in items(workload.template, "spec", "containers"):
        if is_rendered(container):
            workload.engine = str(container.get("name"))
            undone = Undone(workload, bundle)
            undone.undo()
            return undone
    return None


def _server(workload: Workload, draft: Draft, request: Request) -> tuple[Launch | None, dict[str, dict[str, Any]]]:
    """The server in one of the containers, and the variables whose values are elsewhere."""
    for container in items(workload.template, "spec", "containers"):
        workload.engine = str(container.get("name"))
        known, elsewhere = plain_variables(workload)
        known = {**request.values, **known}
        if workload.pods > 1:
            known |= {"LWS_GROUP_SIZE": str(workload.pods), "LWS_WORKER_INDEX": "0"}  # those of the leader
        scratch = Draft(pods=workload.pods)
        as_written = workload.on_a_machine or workload.rendered
        launch = _launch(container, known, scratch, as_written=as_written)
        if launch is not None:
            if not workload.rendered:
                launch.words = with_config_file(launch.words, workload, draft)
            if workload.on_a_machine or not workload.rendered:  # a rendered pod holds its words as the spec has them
                launch.words = list(map(escaped, launch.words))
            launch.variables = {name: escaped(value) for name, value in launch.variables.items()}
            draft.remarks += scratch.remarks
            return launch, elsewhere
    return None, {}


_SHELL: Final = re.compile(r"(\S*/)?(ba|da|k|z)?sh")
_TEMPLATE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A variable that a tool such as envsubst fills in before the object is applied."""

_HAS_BLANKS: Final = re.compile(r"\s")
_OWN_IMAGE: Final = re.compile(r"(docker\.io/)?vllm/vllm-openai(-[a-z]+)?([:@].*)?")
"""vLLM's own images, which start its server with what stands behind them."""

_PROGRAMS: Final = re.compile(r"(\S*/)?(vllm|python3?(\.\d+)?|sh|bash|env|exec)")


def _launch(container: Mapping[str, Any], known: dict[str, str], draft: Draft, *, as_written: bool) -> Launch | None:
    given, arguments = texts(container.get("command")), texts(container.get("args"))
    if not as_written:
        given, arguments = ([expanded(word, known) for word in some] for some in (given, arguments))
        if not any(_SHELL.fullmatch(word) for word in given[:1]):  # a shell would fill these in
            given, arguments = (
                [_TEMPLATE.sub(lambda found: mark(found[1]), word) for word in some] for some in (given, arguments)
            )
    if len(given) == 1 and _HAS_BLANKS.search(given[0].strip()):
        given = _words_of(given[0])
        draft.note(f"`{given[0]} ...` is one word of the command, which names no program: it is read as its words")
    if given:
        return program.launch_in([*given, *arguments], draft, known)
    if arguments and _PROGRAMS.fullmatch(arguments[0]):
        return program.launch_in(arguments, draft, known)
    if arguments[:1] == ["serve"]:
        arguments = arguments[1:]
    return Launch(arguments) if _is_vllm(container, arguments) else None


def _words_of(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _is_vllm(container: Mapping[str, Any], arguments: Sequence[str]) -> bool:
    """Whether an image starts the server by itself."""
    image = str(container.get("image") or "").lower()
    if "vllm" in image:
        return bool(model_in(arguments) or config_files(arguments))
    return any(word.startswith("--model") for word in arguments)
