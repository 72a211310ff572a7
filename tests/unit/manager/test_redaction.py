"""Secrets in text: none that is known, or has a form by which it is known, is told; ordinary words are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.processor import processor_seconds
from vllm_operator.manager.redaction import redactor, without_secrets

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=20, max_size=60)

PLACES = (
    "OSError: 401 for token hf_{}",
    "headers: {{'Authorization': 'Bearer {}'}}",
    "Authorization: Basic {}",
    "authorization = {}",
    "GET https://user:{}@proxy.example.com:3128/models failed",
    "redis://:{}@cache:6379/0 refused",
    "https://s3.example.com/model?X-Amz-Signature={}&x=1",
    "https://hub.example.com/api?token={} 403",
    '{{"api_key": "{}", "model": "m"}}',
    "AWS_SECRET_ACCESS_KEY={} AWS_REGION=eu",
    "error: unrecognized arguments: --api-key {} --foo",
    "password: {}",
    "OpenAI key sk-{} is wrong",
    "eyJhbGciOiJIUzI1NiJ9.{}.c2lnbmF0dXJl",
    "ghp_{} has no rights",
)


@given(secret=TOKEN, place=st.sampled_from(PLACES), around=st.text("xyz äß\n'\"{}:=", max_size=20))
def test_a_planted_secret_is_never_told(secret: str, place: str, around: str) -> None:
    told = without_secrets(f"{around} {place.format(secret)} {around}")
    assert secret not in told
    assert secret[4:] not in told


@given(
    secret=st.text("abcdefghijkl-_/+=0123456789", min_size=6, max_size=60),
    before=st.text("xyz \n"),
    after=st.text("xyz \n"),
)
def test_the_value_of_a_secret_variable_is_never_told(secret: str, before: str, after: str) -> None:
    redact = redactor({"VLLM_API_KEY": secret, "PATH": "/usr/bin"})
    assert secret not in redact(f"{before}{secret}{after}")


@pytest.mark.parametrize(
    "text",
    [
        "ValueError: max_num_batched_tokens (2048) is smaller than max_model_len (8192).",
        "GPU KV cache size: 65,536 tokens, Maximum concurrency for 2,048 tokens per request: 32.00x",
        "non-default args: {'max_num_batched_tokens': 2048, 'served_model_name': ['tiny']}",
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files",
        "the engine's `VLLM_API_KEY` is not a key of its server",
        "tokenizer.json not found in /models/llama@main",
        "set spec.model.tokenSecret: name: hf-token",
        "ValueError: eos_token: 128009 is not in the vocabulary",
    ],
)
def test_words_that_are_no_secrets_are_told_as_they_are(text: str) -> None:
    assert without_secrets(text) == text


def test_a_megabyte_of_what_looks_like_secrets_takes_time_that_grows_with_it_and_no_faster() -> None:
    for part in ("hf_", "Bearer ", "://a:b", "eyJaaaaaaaa.", "api_key=", "token=" * 3, "password'"):
        small, large = (_seconds(part * (size // len(part))) for size in (64_000, 512_000))
        assert large < 24 * small + 0.02, part


def _seconds(text: str) -> float:
    return processor_seconds(lambda: without_secrets(text))
