"""Arguments of one part of an engine that is spread over several nodes, as what `spec.parallelism` says of the whole.

Each part is started by hand with its own rank and with the address of the first one. The operator gives each pod of a
group these, so what counts of them is how many parts there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.cli.importing.shell import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cli.importing.draft import Draft

_NODES: Final = ("--nnodes", "-n")
_LOCAL: Final = ("--data-parallel-size-local", "-dpl")
_ONE_RANK: Final = ("--data-parallel-rank", "-dpn")
_BALANCING: Final = (
    *("--data-parallel-external-lb", "-dpe", "--data-parallel-hybrid-lb", "-dph"),
    *("--data-parallel-multi-port-external-lb", "-dpm"),
)
_PLACE: Final = (
    *("--node-rank", "-r", "--master-addr", "--master-port", "--headless"),
    *("--data-parallel-start-rank", "-dpr", "--data-parallel-address", "-dpa", "--data-parallel-rpc-port", "-dpp"),
    *("--data-parallel-backend", "-dpb"),
)

_NOT_FIRST: Final = ("--headless", "--node-rank", "-r", "--data-parallel-start-rank", "-dpr")
"""Arguments of a part that is not the first one, where they are not 0."""

ARGUMENTS: Final = (*_NODES, *_LOCAL, *_ONE_RANK, *_BALANCING, *_PLACE)
"""Every argument that `write` reads."""


def write(draft: Draft, given: Mapping[str, str]) -> None:
    """Write how many pods an engine has, by the arguments of one of its parts: names and their values."""
    ranks = draft.get("parallelism", "data") or 1
    pods = draft.pods if draft.pods > 1 else _pods(draft, given, ranks)
    draft.put(("parallelism", "nodes"), pods if pods > 1 else None)
    balanced = [name for name in _BALANCING if name in given]
    if balanced:
        draft.note(
            f"{', '.join(balanced)}: an engine has one server here, which spreads requests over all ranks; replicas "
            "are servers of their own",
            "parallelism",
        )
    rest = [name for name in given if name not in balanced]
    if rest and pods > 1:
        draft.note(f"{', '.join(rest)}: the operator sets it in each pod of a group", "parallelism")
        _drop_server_count(draft)
    elif any(given.get(name, "0") != "0" for name in _NOT_FIRST):
        draft.check(
            f"{', '.join(rest)}: a part of an engine over several nodes, and how many there are is not told: set "
            "spec.parallelism.nodes",
            "parallelism",
            "nodes",
        )
    elif rest:
        draft.note(f"{', '.join(rest)}: left out, since the engine is one pod", "parallelism")


def _pods(draft: Draft, given: Mapping[str, str], ranks: int) -> int:
    """How many parts there are; 1 where the arguments do not tell."""
    nodes = next((given[name] for name in _NODES if name in given), "1")
    local = next((given[name] for name in _LOCAL if name in given), "")
    for name, text in (("--nnodes", nodes), ("--data-parallel-size-local", local or "1")):
        if not text.isdigit() or text == "0":
            draft.check(f"{name} {shown(text)} is not filled in: set spec.parallelism.nodes", "parallelism", "nodes")
            return 1
    if nodes != "1":
        return int(nodes)
    if any(name in given for name in _ONE_RANK):
        draft.check(
            "each rank was a server of its own (--data-parallel-rank): here one server leads to all; set "
            "spec.parallelism.nodes where they are to be in several pods",
            "parallelism",
        )
    if not local or ranks % int(local):
        return 1
    return ranks // int(local)


def _drop_server_count(draft: Draft) -> None:
    engine = draft.get("engine") or {}
    if engine.pop("apiServerCount", None):
        if not engine:
            del draft.spec["engine"]
        draft.note(
            "--api-server-count is left out: vLLM takes none in the pods of a group without a server, and starts as "
            "many as there are ranks",
            "engine",
        )
