"""What `spec.engine.extraArgs` may not say: what has a field of its own, what the operator sets, what vLLM dropped."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from vllm_operator.api.base import Rule
from vllm_operator.api.spec.flag import flagged_fields
from vllm_operator.api.spec.profiles import VLLM_VERSION
from vllm_operator.api.vllm_releases import Version, arguments_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic import BaseModel

    from vllm_operator.api.spec.flag import FlaggedField

OWNED: Final[dict[str, str]] = {
    "--api-key": "set spec.auth: an argument shows the key to everybody who may read pods",
    "--enable-lora": "set spec.lora",
    "--hf-token": "set spec.model.tokenSecret: an argument shows the token to everybody who may read pods",
    "--config": "set the fields of spec: a file would hide them",
    "--spec-method": "set spec.engine.speculativeDecoding",
    "--spec-model": "set spec.engine.speculativeDecoding",
    "--spec-tokens": "set spec.engine.speculativeDecoding",
    "--ssl-certfile": "set spec.engine.tls",
    "--ssl-keyfile": "set spec.engine.tls",
    "--enable-ssl-refresh": "set spec.engine.tls",
}
"""Arguments without a field of the same meaning, each with what to do instead."""

_OWNED_SWITCHES: Final = ("--enable-lora", "--enable-ssl-refresh")
"""Those of them that have an opposite, `--no-...`."""

_OF_A_GROUP: Final = "the operator sets it in each pod of an engine over several nodes: set spec.parallelism.nodes"
_RANKS: Final = (
    "each pod finds the ranks that it has by itself: set spec.parallelism.data, and spec.parallelism.nodes where they "
    "are in several pods"
)
_BALANCED: Final = (
    "an engine has one server, which spreads requests over all ranks: set spec.parallelism.data; replicas are servers "
    "of their own"
)
_NO_CLIENT_CERTIFICATE: Final = (
    "the gate has no certificate to show: have a sidecar or a gateway ask clients for theirs"
)

UNSUITED: Final[dict[str, str]] = {
    **dict.fromkeys(("--headless", "--node-rank", "-r", "--master-addr"), _OF_A_GROUP),
    **dict.fromkeys(("--data-parallel-size-local", "-dpl", "--data-parallel-start-rank", "-dpr"), _RANKS),
    **dict.fromkeys(("--data-parallel-rank", "-dpn"), _RANKS),
    **dict.fromkeys(("--data-parallel-external-lb", "-dpe", "--data-parallel-hybrid-lb", "-dph"), _BALANCED),
    **dict.fromkeys(
        ("--data-parallel-multi-port-external-lb", "-dpm"),
        "the gate and the Service know one port of an engine: set spec.parallelism.data",
    ),
    **dict.fromkeys(("--ssl-ca-certs", "--ssl-cert-reqs"), _NO_CLIENT_CERTIFICATE),
    "--uds": "the gate and the Service need the port",
    "--grpc": "the gate and the Service speak HTTP",
    "--disable-log-stats": "it empties the metrics, by which the gate sees whether the engine makes progress",
    "--tokens-only": "the gate and clients need the API under /v1, which takes texts",
    "--skip-tokenizer-init": "the gate and clients send texts",
    "--mm-encoder-only": "an encoder by itself completes no prompt, so the gate never lets traffic in",
}
"""Arguments that switch a promise of the operator off, each with the reason. An engine that is started with one of them
never gets traffic, or hangs unnoticed.

They were found by going through the front end's arguments of vLLM 0.32.0 (vllm/entrypoints/launchers/cli_args.py and
entrypoints/cli/serve.py). The rest of them changes what the engine says or logs, and not whether it serves.
"""

SPREAD: Final = (
    *("--headless", "--nnodes", "-n", "--node-rank", "-r", "--master-addr", "--master-port"),
    *("--data-parallel-size-local", "-dpl", "--data-parallel-start-rank", "-dpr", "--data-parallel-rank", "-dpn"),
    *("--data-parallel-address", "-dpa", "--data-parallel-rpc-port", "-dpp"),
    *("--data-parallel-external-lb", "-dpe", "--data-parallel-hybrid-lb", "-dph"),
)
"""Arguments of one part of an engine that is spread over several nodes or pods. Where two of them stand together, that
is what is meant: to tell of one alone would only lead to the next."""

_SPREAD: Final = (
    "these arguments are for an engine over several nodes or pods: take all of --headless, --nnodes, --node-rank, "
    "--master-addr, --master-port, and of --data-parallel-size-local, -start-rank, -rank, -address, -rpc-port, "
    "-external-lb and -hybrid-lb out, and set spec.parallelism.nodes to the pods of an engine, and data to its ranks"
)

WITHOUT_SERVER: Final = ("--api-server-count", "-asc")
"""With 0 the engine starts no HTTP server, as with `--headless`; any other number is right. Specs that were applied
before spec.engine.apiServerCount was there may hold them."""

REMOVED: Final[dict[str, tuple[str, str]]] = {
    "--device": ("0.10.0", "set spec.accelerator.profile"),
    "--disable-async-output-proc": ("0.11.0", "leave it out"),
    "--disable-frontend-multiprocessing": ("0.19.0", "leave it out"),
    "--disable-log-requests": ("0.17.0", "leave it out, since requests are not logged unless spec.engine.debug is set"),
    "--enable-reasoning": ("0.10.0", "leave it out, since spec.engine.reasoningParser is enough"),
    "--guided-decoding-backend": ("0.12.0", "leave it out, or use --structured-outputs-config"),
    "--max-context-len-to-capture": ("0.6.4", "leave it out"),
    "--max-seq-len-to-capture": ("0.11.0", "leave it out"),
    "--multi-step-stream-outputs": ("0.10.1", "leave it out"),
    "--ngram-prompt-lookup-max": ("0.8.3", "set spec.engine.speculativeDecoding"),
    "--num-lookahead-slots": ("0.12.0", "leave it out"),
    "--num-scheduler-steps": ("0.10.1", "leave it out"),
    "--num-speculative-tokens": ("0.8.3", "set spec.engine.speculativeDecoding"),
    "--override-pooler-config": ("0.12.0", "use --pooler-config"),
    "--preemption-mode": ("0.11.0", "leave it out"),
    "--rope-scaling": ("0.11.1", "set spec.model.hfOverrides"),
    "--rope-theta": ("0.11.1", "set spec.model.hfOverrides"),
    "--scheduler-delay-factor": ("0.11.0", "leave it out"),
    "--speculative-model": ("0.8.3", "set spec.engine.speculativeDecoding"),
    "--swap-space": ("0.18.0", "leave it out, or set spec.engine.kvOffloading"),
    "--task": ("0.13.0", "set spec.model.runner and spec.model.convert"),
    "--use-v2-block-manager": ("0.10.0", "leave it out"),
    "--worker-use-ray": ("0.7.0", "leave it out"),
}
"""Arguments of older guides, each with the first vLLM that refuses it and what to do instead. One may come back, as
--disable-log-requests did with 0.33.0. A test holds them to the table of releases."""


@cache
def refused_arguments(model: type[BaseModel]) -> dict[str, str]:
    """Every argument that extraArgs may not hold, with what to tell of it; `model` is the type of the whole spec.

    The opposite `--no-...` of a switch is an argument of its own. That of one in UNSUITED takes nothing away.
    """
    told = {flag: f"is set by the operator: {advice}" for flag, advice in OWNED.items()}
    told |= {flag: f"cannot be used: {reason}" for flag, reason in UNSUITED.items()}
    told |= {_opposite(flag): told[flag] for flag in _OWNED_SWITCHES}
    for field in flagged_fields(model):
        path = ".".join(("spec", *field.path))
        for name in (field.flag.name, *field.flag.short):
            told[name] = f"has a field of its own: set {path}"
        if _is_switch(field):
            advice = f"set {path} to false" if field.flag.off else f"leave {path} out, since that is vLLM's default"
            told[_opposite(field.flag.name)] = f"has a field of its own: {advice}"
    return dict(sorted(told.items()))


def _opposite(switch: str) -> str:
    """The argument that turns a switch off."""
    return switch.replace("--", "--no-", 1)


def _is_switch(found: FlaggedField) -> bool:
    """Whether the argument takes no value."""
    return bool in getattr(found.field.annotation, "__args__", (found.field.annotation,))


_FLAG: Final = "word.split('=', 2)[0].split('.', 2)[0].replace('_', '-')"
"""CEL: the flag of a word. vLLM reads `_` as `-` in a flag, a value after `=` and a key after `.`."""


def refusal_rule(refused: Mapping[str, str]) -> Rule:
    """The rule that keeps them out; it stands on the list of arguments.

    There the API server judges anew only a list that is edited. So a model that was applied before one of its arguments
    got a field can still be scaled, and edited elsewhere. Those of SPREAD are told of together.
    """
    rule = _without(refused)
    together = f"self.filter(word, {_FLAG} in {list(SPREAD)}).size() > 1"
    return rule._replace(
        message_expression=f"{together} ? {_text(f'spec.engine.extraArgs: {_SPREAD}')} : {rule.message_expression}"
    )


def _without(refused: Mapping[str, str]) -> Rule:
    """A list of arguments holds none of these. Of the first one the reason is told: of each would cost too much."""
    names = "[" + ", ".join(map(_text, refused)) + "]"
    table = "{" + ", ".join(f"{_text(name)}: {_text(f'{name} {told}')}" for name, told in refused.items()) + "}"
    hit = f"word.startsWith('-') && {_FLAG} in {names}"
    first = f"self.filter(word, {hit})[0]"
    return Rule(
        f"!self.exists(word, {hit})",
        "spec.engine.extraArgs holds an argument that has a field of its own, or that only the operator sets",
        message_expression=f"'spec.engine.extraArgs: ' + {table}[{_FLAG.replace('word', first, 1)}]",
    )


ONE_WORD_RULE: Final = Rule(
    r"!self.exists(word, word.matches('^--?[A-Za-z][-A-Za-z0-9_.]*\\s|^\\s+-|^--?[A-Za-z][^=]*=\\S*\\s+--[a-z]'))",
    "spec.engine.extraArgs: an item holds two words, which vLLM would read as one: make them two items, as in "
    '[--max-logprobs, "5"]',
)
"""The rule that an item of extraArgs holds a flag alone, or a value alone. A value may hold blanks."""


def removed_arguments() -> dict[str, str]:
    """What the vLLM of the operator's own images has dropped, with what to tell of it."""
    default = Version.read(VLLM_VERSION)
    known = arguments_of(default) if default else {}
    return {
        flag: f"is gone since vLLM {since}: {advice}" for flag, (since, advice) in REMOVED.items() if flag not in known
    }


def removal_rule() -> Rule:
    """The rule that keeps out what vLLM has dropped, where the image is the operator's own; it stands on the engine.

    Of another image the API server does not know the version: there the status tells it, see `versions.warnings`.
    """
    rule = _without(removed_arguments())
    listed = "self.extraArgs"
    holds = rule.expression.replace("self", listed, 1)
    return rule._replace(
        expression=f"has(self.image) || has(self.version) || !has({listed}) || {holds}",
        message="spec.engine.extraArgs holds an argument that vLLM has dropped",
        message_expression=rule.message_expression.replace("self.filter", f"{listed}.filter"),
        field_path=".extraArgs",
    )


def abbreviation_of(word: str, refused: Collection[str]) -> str:
    """The argument that is refused and that vLLM would complete a word of extraArgs to; empty if there is none."""
    if re.match("-[^-]", word):  # the value of a short argument may follow it at once, as in -qawq
        return word[:2] if word[:2] in refused and word[2:3] not in {"", "="} else ""
    flag = word.partition("=")[0].partition(".")[0].replace("_", "-")
    if not flag.startswith("--") or flag == "--":
        return ""
    return next((name for name in refused if name.startswith(flag) and name != flag), "")


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
