"""Common cards, with the memory that programs see: it is less than what is printed on the box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vllm_operator.fit.settings import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One kind of GPU."""

    name: str
    memory_bytes: int
    """What torch.cuda.mem_get_info says is there in all."""
    sold_gib: int
    """The size under which it is sold."""
    profile: str = "nvidia"
    """`spec.accelerator.profile` for it."""
    source: str
    """Where the memory was read, or what says it."""

    @property
    def is_a100(self) -> bool:
        """Whether vLLM counts it among the A100s, for which it takes smaller batches."""
        return self.name.startswith("A100")


def _card(name: str, gib: float, sold_gib: int, source: str, profile: str = "nvidia") -> Card:
    return Card(name=name, memory_bytes=int(gib * GIB), sold_gib=sold_gib, profile=profile, source=source)


_OUT_OF_MEMORY: Final = "`total capacity of ...` in public reports of torch.OutOfMemoryError; the smallest of several"

CARDS: Final = (
    _card("L4", 22.03, 24, _OUT_OF_MEMORY),
    _card("A10", 22.06, 24, f"{_OUT_OF_MEMORY}; nvidia-smi says 23028 MiB"),
    _card("RTX 4090", 23.52, 24, f"{_OUT_OF_MEMORY}; nvidia-smi says 24564 MiB"),
    _card("A100 40GB", 39.38, 40, _OUT_OF_MEMORY),
    _card("L40S", 44.39, 48, f"{_OUT_OF_MEMORY}; with ECC"),
    _card("A100 80GB", 79.14, 80, _OUT_OF_MEMORY),
    _card("H100", 79.18, 80, "vLLM's own log in llm-d-benchmark, config_explorer/empirical-vllm-memory-results.md"),
    _card("H200", 139.72, 141, _OUT_OF_MEMORY),
    _card("B200", 178.35, 180, f"{_OUT_OF_MEMORY}; sold as 180 and as 192 GB"),
    _card("MI300X", 191.69, 192, f"{_OUT_OF_MEMORY}; 191.98 without a reserve of the driver", "amd"),
)


def card_named(name: str) -> Card | None:
    """The card of that name, whatever its case, spaces and hyphens; None if there is none."""
    return next((card for card in CARDS if _plain(card.name) == _plain(name)), None)


def card_of(memory_bytes: int) -> Card:
    """A card for a size that somebody wrote down.

    `24Gi` is what people write for a card of 24 GB, and no card of that name has 24 GiB for programs: the size under
    which a card is sold stands for the smallest memory of those cards. Any other size is taken as it is.
    """
    size = f"{memory_bytes / GIB:.4g} GiB"
    sold = [card for card in CARDS if memory_bytes in {card.sold_gib * GIB, card.sold_gib * 10**9}]
    if not sold:
        return Card(name=size, memory_bytes=memory_bytes, sold_gib=0, source="spec.accelerator.memory")
    smallest = min(sold, key=lambda card: card.memory_bytes)
    named = ", ".join(card.name for card in sold)
    return Card(
        name=f"a card sold as {smallest.sold_gib} GB ({named})",
        memory_bytes=smallest.memory_bytes,
        sold_gib=smallest.sold_gib,
        source=smallest.source,
    )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum()).removesuffix("gb")
