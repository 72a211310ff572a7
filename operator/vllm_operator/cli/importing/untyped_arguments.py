"""Arguments of `vllm serve` that have no field: which of them stand alone, and which are slips of the pen.

The names are those of vLLM 0.32.0 (vllm/engine/arg_utils.py and vllm/entrypoints/openai/cli_args.py).
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_ALONE: Final = frozenset(
    {
        *("--enable-request-id-headers", "--enable-server-load-tracking", "--enable-force-include-usage"),
        *("--enable-prompt-tokens-details", "--enable-log-outputs", "--enable-return-routed-experts", "--enable-eplb"),
        *("--enable-dbo", "--enable-tower-connector-lora", "--enable-prompt-embeds", "--enable-mm-embeds"),
        *(
            "--disable-sliding-window",
            "--disable-cascade-attn",
            "--disable-custom-all-reduce",
            "--disable-fastapi-docs",
        ),
        *("--disable-mm-preprocessor-cache", "--disable-nccl-for-dp-synchronization", "--calculate-kv-scales"),
        *(
            "--return-tokens-as-token-ids",
            "--trust-request-chat-template",
            "--show-hidden-metrics",
            "--log-error-stack",
        ),
        *("--aggregate-engine-logging", "--exclude-tools-when-tool-choice-none", "--enable-tokenizer-info-endpoint"),
        *("--fully-sharded-loras", "--ray-workers-use-nsight", "--skip-mm-profiling", "--use-tqdm-on-load"),
        *("--allow-deprecated-quantization", "--interleave-mm-strings", "--cudagraph-metrics", "--allow-credentials"),
        *("--kv-sharing-fast-prefill", "--enable-layerwise-nvtx-tracing", "--enable-mfu-metrics"),
        *("--enable-flashinfer-autotune", "--enable-offline-docs", "--enable-logging-iteration-details"),
    }
)
_REFUSED_ALONE: Final = frozenset(
    {
        *(
            "--enable-lora",
            "--headless",
            "--grpc",
            "--disable-log-requests",
            "--disable-log-stats",
            "--enable-reasoning",
        ),
        *("--disable-frontend-multiprocessing", "--use-v2-block-manager", "--worker-use-ray", "--enable-ssl-refresh"),
        *("--multi-step-stream-outputs", "--disable-async-output-proc", "--skip-tokenizer-init", "--tokens-only"),
        *("--mm-encoder-only", "--data-parallel-external-lb", "-dpe", "--data-parallel-hybrid-lb", "-dph"),
        *("--data-parallel-multi-port-external-lb", "-dpm"),
    }
)
"""Arguments that extraArgs may not hold."""

_NEAR: Final = 0.88
"""How like a known name has to be to be meant: `--gpu-memory-utilisation`, and not `--enable-foo`."""


def stands_alone(name: str) -> bool:
    """Whether a word behind an argument without a field is the model, and not its value."""
    return name.startswith("--no-") or name in _ALONE or name in _REFUSED_ALONE


def meant(name: str, known: Iterable[str]) -> str:
    """The known argument that a name was meant to be; empty where none is near."""
    if name in _ALONE:
        return ""
    found = difflib.get_close_matches(name, [one for one in known if one.startswith("--")], n=1, cutoff=_NEAR)
    return found[0] if found else ""
