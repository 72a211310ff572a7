"""The helper that asks vLLM's own parser: what it understands, what it refuses, and that it goes on after a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.vllm_parser import ParserRefusalError, RealParser, real_parser

pytestmark = pytest.mark.real_vllm


@pytest.mark.parametrize(
    ("words", "understood"),
    [
        (["--max-model-len", "32k"], {"max_model_len": 32000}),
        (["--max_model_len=32K"], {"max_model_len": 32768}),
        (["--max-num-seqs", "4", "--max-num-seqs", "8"], {"max_num_seqs": 8}),
        (["--no-enable-prefix-caching"], {"enable_prefix_caching": False}),
        (["--speculative-config.method", "ngram"], {"speculative_config": {"method": "ngram"}}),
        (["--limit-mm-per-prompt", '{"image": 2}'], {"limit_mm_per_prompt": {"image": 2}}),
        (["--cpu-offload-gb", "4"], {"cpu_offload_gb": 4.0, "cpu_offload_params": []}),
    ],
    ids=" ".join,
)
def test_what_vllm_understands_comes_back(parser: RealParser, words: list[str], understood: dict[str, Any]) -> None:
    parsed = parser.parse(["org/model", *words])
    assert parsed["model_tag"] == "org/model"
    assert {name: parsed[name] for name in understood} == understood


def test_adapters_and_nested_configurations_come_back_as_objects(parser: RealParser) -> None:
    parsed = parser.parse(["m", "--lora-modules", "sql=/adapters/sql", "--compilation-config", '{"mode": 3}'])
    [adapter] = parsed["lora_modules"]
    assert (adapter["name"], adapter["path"]) == ("sql", "/adapters/sql")
    assert parsed["compilation_config"]["mode"] == "VLLM_COMPILE"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--swap-space", "4"], "unrecognized arguments: --swap-space 4"),
        (["--max-num", "4"], "ambiguous option: --max-num could match"),
        (["--dtype", "bf16"], "argument --dtype: invalid choice: 'bf16'"),
        (["--max-model-len", "1e3"], "argument --max-model-len: invalid human_readable_int_or_auto value: '1e3'"),
        (["--enable-auto-tool-choice"], "TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser"),
        (["--chat-template", "/missing.jinja"], "appears path-like, but doesn't exist!"),
        (["--help"], "it only prints its help"),
    ],
    ids=str,
)
def test_a_refusal_carries_vllms_own_words_and_the_parser_goes_on(
    parser: RealParser, words: list[str], told: str
) -> None:
    with pytest.raises(ParserRefusalError) as refused:
        parser.parse(["org/model", *words])
    assert told in str(refused.value)
    assert parser.parse(["org/model"])["port"] == 8000


def test_a_parser_that_has_ended_says_so() -> None:
    with real_parser() as parser:
        parser.process.kill()
        parser.process.wait()
        with pytest.raises(RuntimeError, match="has ended with exit code -9"):
            parser.parse(["org/model"])
