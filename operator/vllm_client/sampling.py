"""Arguments of a chat completion: the defaults, and those that vLLM takes beyond what OpenAI knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULTS: Final[Mapping[str, Any]] = {
    "temperature": 0.1,
    "max_tokens": 2000,
    "top_p": 0.9,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
}
"""What is asked for unless told otherwise."""

VLLM_ARGUMENTS: Final = frozenset(
    {
        "add_generation_prompt",
        "add_special_tokens",
        "allowed_token_ids",
        "bad_words",
        "cache_salt",
        "chat_template",
        "chat_template_kwargs",
        "continue_final_message",
        "documents",
        "echo",
        "ec_transfer_params",
        "ignore_eos",
        "include_reasoning",
        "include_stop_str_in_output",
        "kv_transfer_params",
        "length_penalty",
        "logprob_token_ids",
        "media_io_kwargs",
        "min_p",
        "min_tokens",
        "mm_payload",
        "mm_processor_kwargs",
        "priority",
        "prompt_logprobs",
        "repetition_detection",
        "repetition_penalty",
        "request_id",
        "return_mm_kwargs",
        "return_prompt_text",
        "return_token_ids",
        "return_token_offsets",
        "return_tokens_as_token_ids",
        "routed_experts_prompt_start",
        "session_id",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop_token_ids",
        "stream_interval",
        "structured_outputs",
        "thinking_token_budget",
        "top_k",
        "truncate_prompt_tokens",
        "truncation_side",
        "use_beam_search",
        "vllm_xargs",
        "watermarking",
    }
)
"""Fields of vLLM's ChatCompletionRequest that the OpenAI client does not know; of vLLM 0.32. Any other name that it
does not know is a mistake, and raises TypeError."""


def answers_wanted(body: Mapping[str, Any]) -> int:
    """How many answers a request asks for."""
    return int(body.get("n") or 1)


def longest_answer(body: Mapping[str, Any]) -> int | None:
    """How many tokens an answer may have; None where only the context bounds it."""
    return body.get("max_completion_tokens") or body.get("max_tokens")


def time_left(limit: Any, spent_seconds: float) -> Any:
    """What is left of a `timeout` in seconds; what is no number stays as it is: None, or an httpx2.Timeout."""
    return max(limit - spent_seconds, 0.0) if isinstance(limit, int | float) else limit
