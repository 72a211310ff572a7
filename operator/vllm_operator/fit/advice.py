"""What would fit: the same model with one field of the spec changed, and on other cards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.errors import NotEstimable
from vllm_operator.fit.cards import CARDS
from vllm_operator.fit.estimate import Verdict, estimate, longest_length

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.fit.architecture import Model
    from vllm_operator.fit.cards import Card
    from vllm_operator.fit.checkpoint import Checkpoint
    from vllm_operator.fit.estimate import Estimate
    from vllm_operator.fit.settings import EngineSettings

_DEGREES: Final = (1, 2, 4, 8)
"""GPUs that most nodes have: an engine is one pod."""
_FEW_SEQUENCES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A field of the spec and a value with which the engine fits."""

    field: str
    value: str
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class OnCard:
    """The same spec on another card."""

    card: Card
    estimate: Estimate
    smallest_tensor: int | None
    """Smallest tensor parallelism that fits; None if none of one node does."""


def suggestions(model: Model, settings: EngineSettings, card: Card, checkpoint: Checkpoint | None) -> list[Suggestion]:
    """Changes of one field each after which the engine fits, those that cost nothing first.

    Of an engine that fits: fewer GPUs, and a longer context. Of one that does not, or may not: more GPUs, a shorter
    context, smaller batches, 8-bit KV cache and weights.

    Raises:
        NotEstimable: as `estimate`.
    """
    now = estimate(model, settings, card, checkpoint)
    found = []
    for field, value, changed in _changes(model, settings, card, checkpoint, now):
        made = _tried(model, changed, card, checkpoint)
        if made and made.verdict is Verdict.FITS:
            found.append(Suggestion(field=field, value=value, estimate=made))
    return found


def smallest_tensor(
    model: Model, settings: EngineSettings, card: Card, checkpoint: Checkpoint | None = None
) -> int | None:
    """Smallest tensor parallelism with which the engine fits; None if none of one node does."""
    for degree in _DEGREES:
        made = _tried(model, _with_tensor(settings, degree), card, checkpoint)
        if made and made.verdict is Verdict.FITS:
            return degree
    return None


def on_cards(
    model: Model, settings: EngineSettings, profile: str, checkpoint: Checkpoint | None = None
) -> list[OnCard]:
    """The spec on each of the common cards of a profile.

    Raises:
        NotEstimable: as `estimate`.
    """
    return [
        OnCard(
            card=card,
            estimate=estimate(model, settings, card, checkpoint),
            smallest_tensor=smallest_tensor(model, settings, card, checkpoint),
        )
        for card in CARDS
        if card.profile == profile
    ]


def _changes(
    model: Model, settings: EngineSettings, card: Card, checkpoint: Checkpoint | None, now: Estimate
) -> Iterator[tuple[str, str, EngineSettings]]:
    fits = now.verdict is Verdict.FITS
    length = longest_length(model, settings, card, checkpoint)
    if length and length != now.max_model_len and (length > now.max_model_len or not fits):
        yield _change("engine.maxModelLen", length, settings, max_model_len=length, auto_max_model_len=False)
    tensor = smallest_tensor(model, settings, card, checkpoint)
    if tensor and (tensor < settings.tensor or not fits):
        yield "spec.parallelism.tensor", str(tensor), _with_tensor(settings, tensor)
    if fits:
        return
    if (settings.max_num_seqs or _FEW_SEQUENCES + 1) > _FEW_SEQUENCES:
        yield _change("engine.maxNumSeqs", _FEW_SEQUENCES, settings, max_num_seqs=_FEW_SEQUENCES)
    if settings.kv_cache_dtype == "auto":
        yield _change("engine.kvCacheDtype", "fp8", settings, kv_cache_dtype="fp8")
    if model.quantization is None and not settings.quantization:
        yield _change("engine.quantization", "fp8", settings, quantization="fp8")


def _change(field: str, value: Any, settings: EngineSettings, **fields: Any) -> tuple[str, str, EngineSettings]:
    return f"spec.{field}", str(value), replace(settings, **fields)


def _with_tensor(settings: EngineSettings, tensor: int) -> EngineSettings:
    """The settings for so many GPUs a layer; the KV cache of a sequence is shared by no more than those."""
    context = settings.decode_context if tensor % settings.decode_context == 0 else 1
    return replace(settings, tensor=tensor, decode_context=context)


def _tried(model: Model, settings: EngineSettings, card: Card, checkpoint: Checkpoint | None) -> Estimate | None:
    """What comes of settings that vLLM may refuse for this model."""
    try:
        return estimate(model, settings, card, checkpoint)
    except NotEstimable:
        return None
