"""Whether a model has room on its GPUs: what an engine has shown, and else what spec.estimate tells. Pure.

It is a warning: nothing is done or left undone because of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.capacity import Capacity, ReportedCapacity, memory_text
from vllm_operator.api.conditions import Reason
from vllm_operator.diagnosis.cause import EngineState
from vllm_operator.errors import NotEstimable
from vllm_operator.fit.accelerator import card_for
from vllm_operator.fit.advice import suggestions
from vllm_operator.fit.config import read_model
from vllm_operator.fit.description import CONFIG, described_in
from vllm_operator.fit.estimate import Verdict, estimate, gib
from vllm_operator.fit.settings import GIB, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vllm_operator.api.spec import VLLMModelSpec
    from vllm_operator.diagnosis.engines import EngineReport
    from vllm_operator.fit.advice import Suggestion
    from vllm_operator.fit.estimate import Estimate
    from vllm_operator.planner.rollout_seen import Seen

READ_AGAIN_AFTER: Final = timedelta(seconds=20)
"""How long what was read of a ConfigMap counts, where its model is looked at for other reasons: no watch shows it."""

MISSING_AGAIN_AFTER: Final = timedelta(seconds=60)
"""When to look again for a ConfigMap that tells nothing: somebody is about to make it."""

_MOST_SUGGESTED: Final = 3
_CPU: Final = "cpu"
_LARGER: Final = (
    "no single change of tensor parallelism, maxModelLen, maxNumSeqs or precision helps: take larger GPUs, or a "
    "smaller or quantized model"
)
_STARTED: Final = frozenset({EngineState.SERVING, EngineState.WITHDRAWN})
_REASONS: Final = {
    Verdict.FITS: Reason.ESTIMATED_TO_FIT,
    Verdict.DOES_NOT_FIT: Reason.GPU_MEMORY_TOO_SMALL,
    Verdict.TIGHT: Reason.TIGHT,
    Verdict.UNKNOWN: Reason.GPU_MEMORY_UNKNOWN,
}
_STATUSES: Final = {Reason.ESTIMATED_TO_FIT: "True", Reason.GPU_MEMORY_TOO_SMALL: "False"}
"""Of what is estimated; anything else is Unknown."""

Told = tuple[str, Reason, str]
"""Status, reason and message of a condition."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """What spec.estimate tells of a model."""

    reason: Reason
    message: str
    capacity: Capacity | None = None
    """What an engine is expected to have; None where that cannot be told."""
    is_missing: bool = False
    """Whether there is no ConfigMap to read, which may change without a watch that shows it."""

    @property
    def told(self) -> Told:
        """As a condition."""
        return _STATUSES.get(self.reason, "Unknown"), self.reason, self.message


def unreadable(message: str, *, is_missing: bool = False) -> Estimated:
    """What there is to tell where nothing describes the model."""
    return Estimated(Reason.SIZES_UNKNOWN, message, is_missing=is_missing)


def estimated(spec: VLLMModelSpec, config_map: str, data: Mapping[str, str]) -> Estimated:
    """What comes of a ConfigMap's content, whatever that is."""
    try:
        return _estimated(spec, config_map, data)
    except NotEstimable as error:
        return unreadable(f"ConfigMap {config_map}: {error}")
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # users write it: what nobody thought of must not cost their model its operator
        return unreadable(f"ConfigMap {config_map}: its {CONFIG} is not understood: {type(error).__name__}")


def condition(
    before: Mapping[str, Any] | None, seen: Seen | None, engines: Iterable[EngineReport], found: Estimated | None
) -> Told | None:
    """The condition Fits; None where nothing is known.

    An engine that has started is believed before any estimate, but only one of the newest template. While the
    Deployment's controller has not seen the newest one, which may be the same, what was told of engines before stands,
    unless the estimate speaks against it.

    Args:
        before: The condition as it was told last.
        seen: The Deployment and its pods.
        engines: What is known of each.
        found: What spec.estimate tells; None where it is not set.
    """
    started = _reported(seen, engines)
    if started is not None:
        return "True", Reason.ENGINE_STARTED, _started_sentence(started, found.capacity if found else None)
    if found is not None and found.reason is Reason.GPU_MEMORY_TOO_SMALL:
        return found.told
    unseen = seen is not None and not seen.observed
    if unseen and before is not None and before["reason"] == Reason.ENGINE_STARTED:
        return str(before["status"]), Reason.ENGINE_STARTED, str(before["message"])
    return found.told if found is not None else None


def _reported(seen: Seen | None, engines: Iterable[EngineReport]) -> ReportedCapacity | None:
    """What engines of the newest template have reported: of several the one that has the least room."""
    if seen is None or not seen.observed:
        return None
    newest = {pod.name for pod in seen.pods if pod.revision == seen.newest}
    started = [
        engine.capacity
        for engine in engines
        if engine.pod in newest and engine.state in _STARTED and engine.capacity is not None
    ]
    return min(started, key=lambda one: (one.kv_cache_tokens is None, one.kv_cache_tokens or 0), default=None)


def _started_sentence(reported: ReportedCapacity, expected: Capacity | None) -> str:
    told = f"an engine has started, and reported {_in_words(reported)}"
    return f"{told}; estimated were {_in_words(expected)}" if expected else told


def _in_words(capacity: Capacity) -> str:
    parts = [
        f"weights of {capacity.weights}" if capacity.weights else "",
        f"a KV cache of {capacity.kv_cache}" if capacity.kv_cache else "",
        f"room for {capacity.kv_cache_tokens:,} tokens" if capacity.kv_cache_tokens is not None else "",
    ]
    return ", ".join(filter(None, parts))


def _estimated(spec: VLLMModelSpec, config_map: str, data: Mapping[str, str]) -> Estimated:
    described = described_in(data, f"ConfigMap {config_map}")
    model, settings, card = read_model(described.config), settings_of(spec), card_for(spec)
    found = estimate(model, settings, card, described.checkpoint)
    fits = found.verdict in {Verdict.FITS, Verdict.UNKNOWN}
    others = [] if card is None or fits else suggestions(model, settings, card, described.checkpoint)
    return Estimated(_REASONS[found.verdict], _message(spec, found, others), _expected(found))


def _expected(found: Estimate) -> Capacity:
    sequences = found.sequences
    return Capacity(
        weights=memory_text(found.weights / GIB),
        kv_cache=None if found.kv_cache is None else memory_text(found.kv_cache / GIB),
        kv_cache_tokens=found.tokens,
        max_model_len=found.max_model_len,
        max_concurrency=None if sequences is None else f"{sequences:.2f}",
    )


def _message(spec: VLLMModelSpec, found: Estimate, others: Sequence[Suggestion]) -> str:
    """The verdict, and the way out where there is need of one."""
    if found.verdict is Verdict.UNKNOWN:
        return _without_memory(spec, found)
    on = f"{found.gpus} x {found.card}: " if found.card else ""
    if found.verdict is Verdict.FITS:
        return f"{on}{found.sentence}"
    if found.verdict is Verdict.TIGHT:
        return f"{on}{found.sentence}; activations and CUDA graphs decide, which only a start measures{_hint(others)}"
    return f"{on}{found.sentence}{_hint(others) or f'; {_LARGER}'}"


def _hint(others: Sequence[Suggestion]) -> str:
    if not others:
        return ""
    return "; it would fit with " + ", or with ".join(f"{one.field} {one.value}" for one in others[:_MOST_SUGGESTED])


def _without_memory(spec: VLLMModelSpec, found: Estimate) -> str:
    if spec.accelerator.profile == _CPU:
        cache = "" if found.kv_cache is None else f", a KV cache of {gib(found.kv_cache)}"
        return (
            f"on CPU weights of {gib(found.weights)} GiB{cache} and some 3 GiB of its processes have to fit into "
            "spec.resources.limits.memory"
        )
    return (
        f"weights take {gib(found.weights)} GiB of each GPU, and one sequence of {found.max_model_len:,} tokens "
        f"{gib(found.kv_sequence)}: set spec.accelerator.memory to learn whether they fit"
    )
