"""An estimate for people: the parts, what would fit, and common cards, as tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.outside import comment
from vllm_operator.cli.table import aligned, cells_of
from vllm_operator.fit.estimate import Verdict, gib

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_operator.cli.estimate.command import Report
    from vllm_operator.fit.advice import OnCard, Suggestion
    from vllm_operator.fit.estimate import Estimate

CPU: Final = "cpu"
"""The profile without devices."""

_PARTS: Final = ("PART", "GIB A GPU", "FROM")
_ON_CPU: Final = ("PART", "GIB", "FROM")
_REPORTED: Final = ("ENGINE", "WEIGHTS", "KV CACHE", "KV TOKENS", "SEQUENCES")
_CARDS: Final = ("CARD", "GIB", "VERDICT", "KV TOKENS", "SEQUENCES", "SMALLEST TENSOR")


def lines(report: Report) -> Iterator[str]:
    """All lines of one model."""
    found = report.estimate
    yield comment(f"{report.namespace}/{report.name}: {report.architecture} of {report.source} on {_devices(report)}")
    yield f"{found.verdict}: {_sentence(report)}"
    yield ""
    parts = [_ON_CPU, *_on_cpu(report)] if report.profile == CPU else [_PARTS, *_parts(report)]
    yield from aligned(cells_of(parts))
    yield ""
    yield from aligned(cells_of(list(_sequences(found, "" if report.profile == CPU else " a GPU"))))
    if report.reported:
        yield from ("", "What engines reported when they started:")
        yield from aligned(cells_of([_REPORTED, *_reported(report)]))
    if report.suggestions:
        yield from ("", "What fits, one change each:")
        yield from aligned(cells_of([_suggested(one) for one in report.suggestions]))
    if report.cards:
        yield from ("", "The same spec on common cards:")
        yield from aligned(cells_of([_CARDS, *map(_on_card, report.cards)]))
    for note in found.notes:
        yield comment(f"note: {note}")


def data(report: Report) -> dict[str, Any]:
    """The same as data: bytes, and names as in the text of the code."""
    return {
        "name": report.name,
        "namespace": report.namespace,
        "source": report.source,
        "architecture": report.architecture,
        "weights_from": report.weights_from,
        "estimate": _plain(report.estimate),
        "reported": [{"pod": pod, **capacity.manifest()} for pod, capacity in sorted(report.reported.items())],
        "suggestions": [
            {"field": one.field, "value": one.value, "estimate": _plain(one.estimate)} for one in report.suggestions
        ],
        "cards": [
            {
                "card": one.card.name,
                "memory": one.card.memory_bytes,
                "memory_from": one.card.source,
                "smallest_tensor": one.smallest_tensor,
                "estimate": _plain(one.estimate),
            }
            for one in report.cards
        ],
    }


def _devices(report: Report) -> str:
    found = report.estimate
    if report.profile == CPU:
        return CPU
    return f"{found.gpus} x {found.card}" if found.card else f"{found.gpus} GPU{'s' if found.gpus > 1 else ''}"


def _sentence(report: Report) -> str:
    if report.profile != CPU or report.estimate.verdict is not Verdict.UNKNOWN:
        return report.estimate.sentence
    return "weights, KV cache and some 3 GiB of its processes have to fit into spec.resources.limits.memory"


def _on_cpu(report: Report) -> Iterator[Sequence[str]]:
    found = report.estimate
    yield "weights", gib(found.weights), report.weights_from
    if found.kv_cache is not None:
        yield "KV cache", gib(found.kv_cache), "VLLM_CPU_KVCACHE_SPACE of spec.engine.env, or spec.engine.kvCacheMemory"


def _plain(found: Estimate) -> dict[str, Any]:
    return asdict(found) | {"verdict": str(found.verdict), "notes": list(found.notes)}


def _parts(report: Report) -> Iterator[Sequence[str]]:
    found = report.estimate
    yield "weights", gib(found.weights), report.weights_from
    if found.adapters:
        yield "LoRA adapters", gib(found.adapters), "spec.lora.maxLoras and maxRank"
    yield "activations", gib(found.activations), "maxNumSeqs x vocabulary, or the widest layer"
    yield "CUDA graphs", gib(found.graphs), "0.1 to 1.9 in measurements; 0 with enforceEager"
    yield "not PyTorch's", gib(found.not_pytorch), "CUDA and NCCL, by measurements of llm-d-benchmark"
    if found.kv_cache is not None:
        yield "KV cache", gib(found.kv_cache), "what is left of the budget, or spec.engine.kvCacheMemory"
    if found.budget is not None and found.memory is not None:
        yield "budget", gib(found.budget), f"gpuMemoryUtilization x {gib(found.memory)}"


def _sequences(found: Estimate, each: str) -> Iterator[Sequence[str]]:
    yield "KV cache of a token", f"{found.kv_token:,} bytes{each}"
    if found.kv_token:
        yield f"one sequence of {found.max_model_len:,} tokens", f"{gib(found.kv_sequence)} GiB{each}"
    if found.tokens is not None and found.sequences is not None:
        yield "room for", f"{found.tokens:,} tokens, {found.sequences:.2f} such sequences"


def _reported(report: Report) -> Iterator[Sequence[str]]:
    """What engines have reported, below what was estimated."""
    found = report.estimate
    yield (
        "estimated",
        gib(found.weights),
        "" if found.kv_cache is None else gib(found.kv_cache),
        "" if found.tokens is None else f"{found.tokens:,}",
        "" if found.sequences is None else f"{found.sequences:.2f}",
    )
    for pod, told in sorted(report.reported.items()):
        yield (
            pod,
            (told.weights or "").removesuffix("Gi"),
            (told.kv_cache or "").removesuffix("Gi"),
            "" if told.kv_cache_tokens is None else f"{told.kv_cache_tokens:,}",
            told.max_concurrency or "",
        )


def _suggested(one: Suggestion) -> Sequence[str]:
    tokens = one.estimate.tokens
    return (
        f"  {one.field}: {one.value}",
        "" if tokens is None else f"{tokens:,} tokens, {one.estimate.sequences:.2f} sequences",
    )


def _on_card(one: OnCard) -> Sequence[str]:
    found = one.estimate
    return (
        one.card.name,
        gib(one.card.memory_bytes),
        found.verdict,
        "" if found.tokens is None else f"{found.tokens:,}",
        "" if found.sequences is None else f"{found.sequences:.2f}",
        "" if one.smallest_tensor is None else str(one.smallest_tensor),
    )
