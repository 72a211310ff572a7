"""What the server's arguments say, written into a draft: each into its field, into extraArgs, or told."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.spec.arguments import OWNED, REMOVED, UNSUITED
from vllm_operator.api.spec.engine import SpeculativeDecoding
from vllm_operator.api.spec.profiles import PROFILES
from vllm_operator.api.spec.sources import served_name
from vllm_operator.api.vllm_releases import arguments_of, releases
from vllm_operator.cli.importing import compilation, release_arguments, spread
from vllm_operator.cli.importing.arguments import (
    FALSE,
    TRUE,
    Field,
    Option,
    Reader,
    fields_by_argument,
    human_number,
    known_arguments,
    merged,
    names_told,
    object_of,
    options_of,
)
from vllm_operator.cli.importing.draft import Level, schema_at
from vllm_operator.cli.importing.secrets import HUB_VARIABLES, KEY_VARIABLE, new_secret
from vllm_operator.cli.importing.shell import mark, shown, variables_in
from vllm_operator.cli.importing.untyped_arguments import is_known, meant, stands_alone
from vllm_operator.cli.schema import faults
from vllm_operator.manager.settings import POLLED_PATHS
from vllm_operator.render.manager import NAMES_PATH
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vllm_operator.cli.importing.draft import Draft
    from vllm_operator.cli.importing.secrets import Vault
    from vllm_operator.cli.importing.workload import Workload

_LISTENS_EVERYWHERE: Final = frozenset({"0.0.0.0", "::", "*"})  # noqa: S104 # names of it
_NAMES_OF_THIS_HOST: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
_OWNERLESS: Final = re.compile(
    r"(distil)?gpt2(-.*)?|openai-gpt|ctrl|transfo-xl-.*|camembert-.*|(distil|xlm-)?roberta-.*|(distil|al)?bert-.*"
    r"|(xlnet|xlm|t5)-.*"
)
"""Ids of the hub that have no owner: a few old ones."""

_LEVEL: Final = "--optimization-level"
_TLS: Final = ("engine", "tls")
_PROFILES: Final = {"cuda": "nvidia", "rocm": "amd", "hpu": "gaudi", "tpu": "tpu", "cpu": "cpu"}
_TASKS: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(("auto", "generate"), ("", "")),
    **dict.fromkeys(("embed", "embedding"), ("pooling", "embed")),
    **dict.fromkeys(("classify", "score"), ("pooling", "classify")),
    "reward": ("pooling", ""),
}
_ALWAYS_SO: Final = frozenset(
    {
        *("--disable-log-requests", "--enable-reasoning", "--use-v2-block-manager", "--worker-use-ray"),
        *("--disable-frontend-multiprocessing", "--disable-async-output-proc", "--multi-step-stream-outputs"),
        *("--max-seq-len-to-capture", "--max-context-len-to-capture", "--num-scheduler-steps", "--swap-space"),
        *("--preemption-mode", "--scheduler-delay-factor", "--num-lookahead-slots"),
    }
)
"""Dropped arguments without which today's vLLM does the same, or does it better by itself."""

_WITHOUT_EFFECT: Final = frozenset(
    {"--disable-log-requests", "--enable-reasoning", "--use-v2-block-manager", "--worker-use-ray"}
)
"""Those of them that no engine needs: its vLLM does so by itself, or the operator has it do so by another field."""


class Serving:
    """Writes the arguments of one server into a draft."""

    def __init__(
        self,
        draft: Draft,
        vault: Vault,
        references: Mapping[str, dict[str, Any]],
        workload: Workload,
    ) -> None:
        self._draft = draft
        self._vault = vault
        self._references = references
        """Variables of the container that come from elsewhere, as in `valueFrom`."""
        self._rendered = workload.rendered
        """Whether the operator itself has made the command: then what is not said has a meaning too."""
        self._version = release_arguments.version_told(str(workload.container.get("image") or ""))
        """The vLLM that is to read the arguments; None where nothing tells it."""
        self._has_sidecars = _has_sidecars(workload)
        self._reader = Reader(draft)
        self._speculation: dict[str, Any] = {}
        self._rope: dict[str, Any] = {}
        self._shuts_down = False
        self._given: dict[str, str] = {}
        self._spread: dict[str, str] = {}

    def read(self, words: Sequence[str]) -> None:
        """Read the arguments, `vllm serve` itself being left out."""
        options, stray = options_of(words)
        if not self._rendered:
            stray = [word.strip() for word in stray]
            for option in options:
                option.values = [_trimmed(value) for value in option.values]
        named = [option.text for option in options if option.name == "--model"]
        self._model([*stray[:1], *named])
        for word in stray[1:]:
            self._draft.lost(f"{shown(word)}: a word that belongs to no argument")
        for option in options:
            if option.name != "--model":
                self._option(option)
        self._finish()

    def _model(self, found: list[str]) -> None:
        told = list(dict.fromkeys(found))
        if len(told) > 1:
            self._draft.check(
                f"two models are named, {shown(told[0])} and {shown(told[1])}: vLLM takes --model", "model", "source"
            )
        if not told:
            return
        source = told[-1]
        if variables_in(source):
            self._draft.check(
                f"nobody has filled in {names_told(source)}: put the model here{_or_set(source)}", "model", "source"
            )
        elif not self._rendered and re.fullmatch(r"[^/:~.][^/:]*", source) and not _OWNERLESS.fullmatch(source):
            self._draft.check(
                f"{source} names no owner, as ids of the hub do: is it a folder of where the command ran, or of the "
                "image's working directory? Bring it into the cluster, as pvc://CLAIM/PATH, oci://IMAGE or "
                "s3://BUCKET/PATH",
                "model",
                "source",
            )
        self._draft.put(("model", "source"), shown(source))

    def _option(self, option: Option) -> None:
        if not self._rendered and self._is_switched_off(option):
            return
        special = _SPECIAL.get(option.name)
        field = fields_by_argument().get(option.name)
        if special:
            special(self, option)
        elif not self._rendered and re.match("-O(?!-)", option.name):
            self._optimization(option)
        elif field:
            self._field(option, field)
        elif option.name.startswith("--no-") and "--" + option.name[5:] in fields_by_argument():
            self._off(option, fields_by_argument()["--" + option.name[5:]])
        elif not self._rendered and option.name.startswith("--no-") and "--" + option.name[5:] in OWNED | UNSUITED:
            self._draft.note(f"{_told(option)} is left out: it is vLLM's default")
        elif option.name in UNSUITED:
            self._draft.lost(f"{_told(option)}: {UNSUITED[option.name]}")
        elif option.name in REMOVED:
            self._removed(option)
        elif option.name in OWNED:
            self._draft.lost(f"{_told(option)}: {OWNED[option.name]}")
        else:
            self._extra(option)

    def _is_switched_off(self, option: Option) -> bool:
        """Whether a value says that a switch without a field is off. One that says it is on is taken away."""
        if option.name in fields_by_argument() or not stands_alone(option.name):
            return False
        given = option.text.lower()
        if given in TRUE:
            option.values, option.words = [], [option.words[0].partition("=")[0]]
        if given not in FALSE:
            return False
        argument = arguments_of(self._version or releases()[-1]).get(option.name)
        if option.name == "--disable-log-requests":
            self._logs_requests(option)
        elif argument and argument.default is True and argument.off:
            self._extra(Option(argument.off[0], "", [], [argument.off[0]]))
        else:
            self._draft.note(f"{_told(option)} is left out: it is vLLM's default")
        return True

    def _optimization(self, option: Option) -> None:
        """`-O3`: of newer releases an argument, of older ones a key of the compilation config, as `-O.KEY` is."""
        level = "" if option.key else compilation.level_in(option.name, option.text)
        if level and release_arguments.has(self._version, "-O"):
            key = compilation.key_of_level(self._version)
            self._field(replace(option, key=key, values=[level]), fields_by_argument()["--compilation-config"])
        elif level:
            self._level(replace(option, values=[level]))
        elif option.name == "-O":
            self._compilation(option)
        else:
            self._draft.lost(f"{_told(option)}: vLLM does not read it either")

    def _level(self, option: Option) -> None:
        made = replace(option, name=_LEVEL, values=[compilation.number_of(option.text)])
        self._field(made, fields_by_argument()[_LEVEL])

    def _compilation(self, option: Option) -> None:
        path = ("engine", "compilationConfig")
        made = compilation.Reworded(option) if self._rendered else compilation.reworded(option, self._version)
        if made.level is Level.CHECK:
            self._draft.check(f"{_told(option)} {made.told}", *path)
        elif made.told:
            self._draft.note(f"{_told(option)}: {made.told}", *path)
        self._field(made.option, fields_by_argument()["--compilation-config"])

    def _field(self, option: Option, field: Field) -> None:
        if option.text == field.flag.default == "auto" and not self._rendered:
            return
        value = self._reader.value(option, field)
        if value is None:
            return
        before = self._draft.get(*field.path)
        if isinstance(before, dict) and isinstance(value, dict) and option.key:
            value = merged(before, value)
        else:
            self._tell_repeated(field, option.text)
        self._draft.put(field.path, value)

    def _tell_repeated(self, field: Field, text: str) -> None:
        """Say that an argument is there twice with different values."""
        name = field.flag.name
        if self._given.setdefault(name, text) != text:
            told = f"{name} is there twice, with {shown(self._given[name])} and {shown(text)}: vLLM takes the last one"
            self._draft.check(told, *field.path)
            self._given[name] = text

    def _off(self, option: Option, field: Field) -> None:
        if schema_at(field.path).get("type") == "boolean":
            self._draft.note(f"{_told(option)} is left out: it is vLLM's default")
        else:
            self._draft.lost(f"{_told(option)}: vLLM knows no such form of {field.flag.name}")

    def _removed(self, option: Option) -> None:
        since, advice = REMOVED[option.name]
        if release_arguments.has(self._version, option.name) and option.name not in _WITHOUT_EFFECT:
            self._extra(option)
        elif option.name in _ALWAYS_SO:
            self._draft.note(f"{_told(option)} is left out: vLLM dropped it in {since}, and needs nothing in its place")
        else:
            self._draft.lost(f"{_told(option)}: gone since vLLM {since}: {advice}")

    def _extra(self, option: Option) -> None:
        if option.name != "--" and not re.fullmatch(r"--?[A-Za-z][A-Za-z0-9-]*", option.name):
            self._draft.lost(f"{_told(option)}: is no argument of vLLM")
            return
        near = meant(option.name, known_arguments())
        if near:
            self._draft.lost(
                f"{_told(option)}: vLLM has no such argument that is known here; {near} was probably meant"
            )
            return
        if not self._rendered and not self._is_taken(option):
            return
        for name in variables_in(" ".join(option.words)):
            if name.lstrip("(") not in self._references and not self._rendered:
                self._draft.check(
                    f"{_told(option)}: nobody has filled in {names_told(' '.join(option.words))}", "engine", "extraArgs"
                )
        words = [_kubelet(word, self._references, every=self._rendered) for word in option.words]
        self._draft.append(("engine", "extraArgs"), *words)
        if is_known(option.name) or self._rendered:
            self._draft.note(f"{option.name} has no field: it stands in spec.engine.extraArgs, as it is")
        else:
            told = f"vLLM {releases()[0]} to {releases()[-1]} has no such argument; it stands there as it is"
            self._draft.check(f"{_told(option)}: {told}", "engine", "extraArgs")

    def _is_taken(self, option: Option) -> bool:
        """Whether the engine's vLLM takes an argument, as far as is known; if not, it is told and left out."""
        found = release_arguments.verdict(option.name, self._version)
        if found:
            level, told = found
            if level is Level.NOTE:
                self._draft.note(f"{_told(option)} {told}")
            elif level is Level.LOST:
                self._draft.lost(f"{_told(option)}: {told}")
            else:
                self._draft.check(f"{_told(option)}: {told}", "engine", "extraArgs")
        for module in release_arguments.modules_in(option.name, option.values):
            if found is None or found[0] is Level.CHECK:
                self._draft.check(f"{option.name} {module}: the image has to hold this module", "engine", "extraArgs")
        return found is None or found[0] is Level.CHECK

    def _names(self, option: Option) -> None:
        self._tell_repeated(fields_by_argument()[option.name], option.text)
        unfilled = [name for name in option.values if variables_in(name)]
        if unfilled and [*map(shown, unfilled)] != [self._draft.get("model", "source")]:
            self._draft.check(
                f"--served-model-name {shown(unfilled[0])}: nobody has filled in {names_told(option.text)}",
                "model",
                "servedNames",
            )
        names = [name for name in option.values if name not in unfilled]
        if not self._rendered:
            names = [self._one_word(name) for name in names]
        self._draft.put(("model", "servedNames"), list(dict.fromkeys(names)))

    def _one_word(self, name: str) -> str:
        """A name that clients give to the model, which is one word here."""
        fitted = "-".join(name.split())
        if fitted != name:
            told = f"--served-model-name {shown(name)}: no name holds blanks here: it has become {fitted}"
            self._draft.check(f"{told}, by which clients have to ask", "model", "servedNames")
        return fitted

    def _host(self, option: Option) -> None:
        if option.text in _LISTENS_EVERYWHERE and not self._rendered:
            return
        if _is_loopback(option.text) and not self._rendered:
            self._loopback(option)
            return
        if any(faults(schema_at(("engine", "host")), option.text, "")):
            self._draft.note(f"{_told(option)} is left out: the server listens at all addresses of its pod")
            return
        self._field(option, fields_by_argument()["--host"])

    def _loopback(self, option: Option) -> None:
        """An address that nothing outside of the pod reaches."""
        if self._has_sidecars:
            self._draft.check(
                f"{_told(option)}: only a sidecar would reach the server; left out, so that the Service does", "engine"
            )
        else:
            self._draft.note(
                f"{_told(option)} is left out: no Service would reach the server, which listens at all addresses now"
            )

    def _shutdown(self, option: Option) -> None:
        self._shuts_down = True
        self._field(option, fields_by_argument()["--shutdown-timeout"])

    def _access_log(self, option: Option) -> None:
        self._given["--disable-access-log-for-endpoints"] = option.text

    def _load_format(self, option: Option) -> None:
        in_bucket = str(self._draft.get("model", "source")).startswith(("s3://", "gs://"))
        if not (in_bucket and option.text == "runai_streamer"):
            self._field(option, fields_by_argument()["--load-format"])

    def _template(self, option: Option) -> None:
        if variables_in(option.text):
            self._draft.check(
                f"{_told(option)}: nobody has filled in {names_told(option.text)}", "model", "chatTemplate"
            )
        elif "{%" in option.text or "{{" in option.text:
            self._draft.put(("model", "chatTemplate"), {"inline": option.text})
        elif not any(faults(schema_at(("model", "chatTemplate", "path")), option.text, "")):
            self._draft.put(("model", "chatTemplate"), {"path": option.text})
        else:
            self._draft.check(
                f"{_told(option)}: a path that depends on where the server is started; in vLLM's own image the "
                "examples are below /vllm-workspace",
                "model",
                "chatTemplate",
            )
            self._draft.put(("model", "chatTemplate"), {"path": f"/vllm-workspace/{option.text.removeprefix('./')}"})

    def _speculative(self, option: Option) -> None:
        try:
            self._speculation = merged(self._speculation, object_of(option))
        except ValueError:
            self._draft.lost(f"{_told(option)}: is no JSON object", "engine", "speculativeDecoding")

    def _speculative_part(self, option: Option) -> None:
        name = _SPECULATIVE_PARTS[option.name]
        self._speculation[name] = human_number(option.text) if name in _NUMBERS else option.text

    def _lora_modules(self, option: Option) -> None:
        adapters = []
        for word in option.values:
            found = _adapter(word)
            if found is None:
                self._draft.lost(
                    f"--lora-modules {shown(word)}: is neither NAME=PATH nor JSON with both", "lora", "adapters"
                )
            else:
                adapters.append(found)
                if "base_model_name" in word:
                    self._draft.note(f"base_model_name of the adapter {found['name']} is left out", "lora", "adapters")
        self._draft.put(("lora", "adapters"), adapters)

    def _enable_lora(self, option: Option) -> None:  # noqa: ARG002 # it has no value
        self._draft.put_empty("lora")

    def _api_key(self, option: Option) -> None:
        keys = []
        for number, word in enumerate(option.values or [""], 1):
            keys.append(
                self._reference(word, "api-key", "api-key" if number == 1 else f"api-key-{number}", KEY_VARIABLE)
            )
        self._draft.put(("auth", "keys"), keys)

    def _hub_token(self, option: Option) -> None:
        if option.text:
            self._draft.put(
                ("model", "tokenSecret"), self._reference(option.text, "hub-token", "token", HUB_VARIABLES[0])
            )

    def _reference(self, word: str, purpose: str, key: str, variable: str) -> dict[str, str]:
        """Where a secret is that an argument names; a value that stands there itself is kept from the output."""
        names = variables_in(word)
        if names and names[0].lstrip("(") in self._references:
            found = part(self._references[names[0].lstrip("(")], "secretKeyRef")
            if found:
                return {"name": str(found.get("name")), "key": str(found.get("key"))}
        if names:
            variable = names[0] if re.fullmatch(r"[A-Za-z_]\w*", names[0]) else variable
        else:
            self._vault.keep(word)
        return new_secret(self._draft, purpose, key, variable)

    def _device(self, option: Option) -> None:
        if option.text in _PROFILES:
            self._draft.put(("accelerator", "profile"), _PROFILES[option.text])
        elif option.text in PROFILES:
            self._draft.put(("accelerator", "profile"), option.text)
        elif option.text != "auto":
            self._draft.check(f"{_told(option)}: no profile is for it: set spec.accelerator", "accelerator")

    def _task(self, option: Option) -> None:
        if option.text not in _TASKS:
            self._draft.lost(f"{_told(option)}: the server has no such task")
            return
        runner, convert = _TASKS[option.text]
        self._draft.put(("model", "runner"), runner or None)
        self._draft.put(("model", "convert"), convert or None)

    def _rope_scaling(self, option: Option) -> None:
        try:
            self._rope |= {"rope_scaling": object_of(option)}
        except ValueError:
            self._draft.lost(f"{_told(option)}: is no JSON object", "model", "hfOverrides")

    def _rope_theta(self, option: Option) -> None:
        self._rope |= {"rope_theta": float(option.text)}

    def _guided(self, option: Option) -> None:
        if release_arguments.has(self._version, option.name):
            self._extra(option)
        elif option.text != "auto":
            self._draft.append(("engine", "extraArgs"), "--structured-outputs-config.backend", option.text)
            self._draft.note(f"{_told(option)} has become --structured-outputs-config.backend")

    def _pooler(self, option: Option) -> None:
        if release_arguments.has(self._version, option.name):
            self._extra(option)
            return
        self._draft.append(("engine", "extraArgs"), "--pooler-config", *option.values)
        self._draft.note(f"{_told(option)} has become --pooler-config")

    def _logs_requests(self, option: Option) -> None:
        """A switch that is turned off, and so logs requests."""
        if self._rendered:
            self._extra(option)
            return
        name = "--enable-log-requests"
        self._field(Option(name, "", [], option.words), fields_by_argument()[name])
        self._draft.note(f"{_told(option)} has become spec.engine.enableLogRequests")

    def _log_stats(self, option: Option) -> None:
        self._draft.note(f"{_told(option)} is left out: {UNSUITED[option.name]}")

    def _place(self, option: Option) -> None:
        """One of the arguments that say which part of an engine this is; together they mean something."""
        self._spread[option.name] = option.text

    def _backend(self, option: Option) -> None:
        if option.text == "ray" and self._draft.pods > 1:
            self._draft.note(
                "--distributed-executor-backend ray is left out: vLLM spans the pods of a group without it"
            )
            return
        if option.text == "ray" and not self._rendered:
            self._draft.note(
                "--distributed-executor-backend ray is left out: within one pod, mp does the same without Ray"
            )
            return
        self._field(option, fields_by_argument()["--distributed-executor-backend"])

    def _certificate(self, option: Option) -> None:
        """A file of the server's certificate: which Secret holds it is known once the volumes are read."""
        if self._rendered:
            return
        if not schema_at(_TLS):
            self._draft.lost(f"{_told(option)}: {(UNSUITED | OWNED).get(option.name, '')}")
            return
        certificate, key = self._draft.certificate
        self._draft.certificate = (option.text, key) if option.name == "--ssl-certfile" else (certificate, option.text)

    def _certificate_refresh(self, option: Option) -> None:  # noqa: ARG002 # it has no value
        if not schema_at(_TLS):
            self._draft.lost(f"--enable-ssl-refresh: {(UNSUITED | OWNED).get('--enable-ssl-refresh', '')}")

    def _config_file(self, option: Option) -> None:
        self._draft.named.append(option.text)
        self._draft.lost(f"{_told(option)}: what stands in the file is not here; put it into the fields of spec")

    def _finish(self) -> None:
        draft = self._draft
        if self._rendered and not self._shuts_down:
            draft.put(("engine", "shutdownTimeoutSeconds"), 0)
        quiet = [path for path in self._given.get("--disable-access-log-for-endpoints", "").split(",") if path]
        if not self._rendered or self._shuts_down:
            asked = (*POLLED_PATHS, NAMES_PATH) if self._rendered and draft.get("lora", "adapters") else POLLED_PATHS
            quiet = [path for path in quiet if path not in asked]
        draft.put(("engine", "disableAccessLogForEndpoints"), quiet)
        if not self._rendered:
            spread.write(draft, self._spread)
        names, source = draft.get("model", "servedNames"), draft.get("model", "source")
        if source and names == [served_name(source)]:
            del draft.spec["model"]["servedNames"]
        if self._speculation:
            self._write_speculation()
        if self._rope:
            before = draft.get("model", "hfOverrides") or {}
            draft.put(("model", "hfOverrides"), merged(before, self._rope))
            draft.check(
                "vLLM 0.11.1 has dropped --rope-scaling and --rope-theta; newer models want rope_parameters, with "
                "rope_theta in it",
                "model",
                "hfOverrides",
            )

    def _write_speculation(self) -> None:
        given = {name: value for name, value in self._speculation.items() if value is not None}
        if given.get("model") == "[ngram]":
            given = {name: value for name, value in given.items() if name != "model"} | {"method": "ngram"}
        fields = {name: str(field.alias) for name, field in SpeculativeDecoding.model_fields.items()}
        rest = {name: value for name, value in given.items() if name not in fields}
        known: dict[str, Any] = {fields[name]: value for name, value in given.items() if name in fields}
        known |= {"extraConfig": rest} if rest else {}
        node = schema_at(("engine", "speculativeDecoding"))
        wrong = list(faults(node, known, "spec.engine.speculativeDecoding"))
        for fault in wrong:
            self._draft.lost(f"--speculative-config: {fault.path} {fault.message}", "engine", "speculativeDecoding")
        if not wrong:
            self._draft.put(("engine", "speculativeDecoding"), known)


_SPECULATIVE_PARTS: Final = {
    "--speculative-model": "model",
    "--num-speculative-tokens": "num_speculative_tokens",
    "--ngram-prompt-lookup-max": "prompt_lookup_max",
    "--spec-method": "method",
    "--spec-model": "model",
    "--spec-tokens": "num_speculative_tokens",
}
_NUMBERS: Final = frozenset({"num_speculative_tokens", "prompt_lookup_max"})

_SPECIAL: Final[dict[str, Callable[[Serving, Option], None]]] = {
    "--served-model-name": Serving._names,  # noqa: SLF001 # the table of this very class, as all below
    "--host": Serving._host,  # noqa: SLF001
    "--shutdown-timeout": Serving._shutdown,  # noqa: SLF001
    "--disable-access-log-for-endpoints": Serving._access_log,  # noqa: SLF001
    "--load-format": Serving._load_format,  # noqa: SLF001
    "--chat-template": Serving._template,  # noqa: SLF001
    "--compilation-config": Serving._compilation,  # noqa: SLF001
    "-cc": Serving._compilation,  # noqa: SLF001
    _LEVEL: Serving._level,  # noqa: SLF001
    "--speculative-config": Serving._speculative,  # noqa: SLF001
    "-sc": Serving._speculative,  # noqa: SLF001
    "--lora-modules": Serving._lora_modules,  # noqa: SLF001
    "--enable-lora": Serving._enable_lora,  # noqa: SLF001
    "--api-key": Serving._api_key,  # noqa: SLF001
    "--hf-token": Serving._hub_token,  # noqa: SLF001
    "--device": Serving._device,  # noqa: SLF001
    "--task": Serving._task,  # noqa: SLF001
    "--rope-scaling": Serving._rope_scaling,  # noqa: SLF001
    "--rope-theta": Serving._rope_theta,  # noqa: SLF001
    "--guided-decoding-backend": Serving._guided,  # noqa: SLF001
    "--override-pooler-config": Serving._pooler,  # noqa: SLF001
    "--disable-log-stats": Serving._log_stats,  # noqa: SLF001
    "--no-disable-log-requests": Serving._logs_requests,  # noqa: SLF001
    **dict.fromkeys(spread.ARGUMENTS, Serving._place),  # noqa: SLF001
    "--distributed-executor-backend": Serving._backend,  # noqa: SLF001
    "--config": Serving._config_file,  # noqa: SLF001
    "--ssl-certfile": Serving._certificate,  # noqa: SLF001
    "--ssl-keyfile": Serving._certificate,  # noqa: SLF001
    "--enable-ssl-refresh": Serving._certificate_refresh,  # noqa: SLF001
    **dict.fromkeys(_SPECULATIVE_PARTS, Serving._speculative_part),  # noqa: SLF001
}


def _has_sidecars(workload: Workload) -> bool:
    """Whether another container runs beside the engine."""
    pod = workload.template["spec"]
    before = [one for one in items(pod, "initContainers") if one.get("restartPolicy") == "Always"]
    return len(items(pod, "containers")) + len(before) > 1


def _is_loopback(text: str) -> bool:
    """Whether only the pod itself reaches an address."""
    try:
        return ipaddress.ip_address(text.strip("[]")).is_loopback
    except ValueError:
        return text.lower() in _NAMES_OF_THIS_HOST


def _trimmed(value: str) -> str:
    """A value without the white space around it, which vLLM's readers of numbers overlook; a template as it is."""
    return value if "{%" in value or "{{" in value else value.strip()


def _adapter(word: str) -> dict[str, str] | None:
    """An adapter as `--lora-modules` names it."""
    if word.startswith("{"):
        try:
            found = json.loads(word)
        except ValueError:
            return None
        if not isinstance(found, dict) or not {"name", "path"} <= found.keys():
            return None
        return {"name": str(found["name"]), "source": str(found["path"])}
    name, equals, path = word.partition("=")
    return {"name": name, "source": path} if equals and name and path else None


def _or_set(source: str) -> str:
    """How `--set` fills in the first variable of a model, where it can."""
    name = variables_in(source)[0].lstrip("(")
    return f", or --set {name}=VALUE" if re.fullmatch(r"\w+", name) else ""


def _told(option: Option) -> str:
    """An argument for people."""
    return " ".join(map(shown, option.words))


def _kubelet(word: str, references: Mapping[str, dict[str, Any]], *, every: bool) -> str:
    """A word of extraArgs: kubelet fills in `$(NAME)` where the pod has such a variable."""
    for name in variables_in(word):
        plain = name.lstrip("(")
        if every or plain in references:
            word = word.replace(mark(name), f"$({plain})")
    return shown(word)
