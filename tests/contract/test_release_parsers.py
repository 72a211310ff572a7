"""What a version is said to take is what its own parser takes, and it understands its words: old and new are asked.

The parsers are made of the releases' own code (tests/support/release_parser.py). That they are the real ones is shown
for the one release that is installed as a whole.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings

from tests.contract.test_arguments import (
    FIELDS,
    MODEL,
    REAL_VERSION,
    destination,
    images_of,
    meant,
    of_version,
    words_of,
)
from tests.support.release_parser import REPOSITORY, release_parser
from tests.support.specs import VARIANTS, setting, specs, value_at
from tests.support.vllm_cpu import engine_environment, real_engine
from tests.support.vllm_parser import ParserRefusalError, RealParser
from tools.flag_reference import TRIED
from tools.vllm_flags import fetch, table
from vllm_operator.api.spec import parse_spec, versions
from vllm_operator.api.vllm_releases import Argument, Version, arguments_of, releases
from vllm_operator.errors import InvalidSpec
from vllm_operator.render.environment import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.real_vllm

EXAMPLES: Final = 60

OTHERWISE: Final = {"model.runner", "model.convert", "engine.debug", "engine.enableLogRequests"}
"""Fields that some versions are told by another argument: tried one by one below."""


@pytest.fixture(scope="module", params=TRIED)
def release(request: pytest.FixtureRequest) -> str:
    """Each of these releases."""
    return str(request.param)


@pytest.fixture(scope="module")
def of_release(release: str) -> Iterator[RealParser]:
    """Its parser."""
    with release_parser(release) as running:
        yield running


def known_to(release: str) -> dict[str, Argument]:
    """Its arguments in the table."""
    version = Version.read(release)
    assert version is not None
    return dict(arguments_of(version))


def refusal(parser: RealParser, words: list[str]) -> str:
    """What the parser says of a command line that it does not take; nothing where it takes it."""
    try:
        parser.parse(words)
    except ParserRefusalError as error:
        return str(error) or "refused"
    return ""


def quiet(raw: dict[str, Any]) -> dict[str, Any]:
    """The spec without the argument that each model gets by itself, and old versions refuse."""
    return {**raw, "engine": {"shutdownTimeoutSeconds": 0, **raw.get("engine", {})}}


def agrees(wanted: Any, found: Any) -> bool:
    """Whether a parsed value is the one that was meant: objects may have more in them, or be told by vLLM as text."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(agrees(value, found.get(name)) for name, value in wanted.items() if value)
    if isinstance(wanted, dict) and isinstance(found, str):
        return all(str(name) in found for name in wanted)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(agrees(*pair) for pair in zip(wanted, found, strict=True))
    return bool(wanted == found)


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_is_refused_exactly_where_the_parser_of_the_release_refuses_its_words(
    of_release: RealParser, release: str, path: str
) -> None:
    known = known_to(release)
    for variant in range(VARIANTS):
        raw = quiet(setting(path, variant))
        judged, faults = taken(raw, release)
        if faults:
            assert f"spec.{path}" in {fault.partition(":")[0] for fault in faults}
            assert refusal(of_release, words_of(raw, "")), f"{release} takes what is refused: {faults}"
            continue
        spec = parse_spec(of_version(judged, release))
        words = words_of(raw, release)
        said = refusal(of_release, words)
        assert bool(said) == bool(versions.warnings(spec)), f"{release} says {said!r} of {words}"
        if said or path in OTHERWISE or FIELDS[path].flag.name not in known:
            continue
        wanted = meant(path, value_at(raw, path), images_of(raw))
        if wanted is not None and FIELDS[path].flag.name in words:
            assert agrees(wanted, of_release.parse(words)[destination(path)])


@given(raw=specs())
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None)
def test_what_is_left_of_a_generated_spec_is_understood(
    of_release: RealParser, release: str, raw: dict[str, Any]
) -> None:
    judged, faults = taken(quiet(raw), release)
    assert not faults or refusal(of_release, words_of(quiet(raw), ""))
    spec = parse_spec(of_version(judged, release))
    said = refusal(of_release, words_of(judged, release))
    assert bool(said) == bool(versions.warnings(spec)), f"{release} says {said!r} of {words_of(judged, release)}"


def taken(raw: dict[str, Any], release: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A spec without the fields that are refused, and the refusals."""
    try:
        parse_spec(of_version(raw, release))
    except InvalidSpec as error:
        left = copy.deepcopy(raw)
        for fault in error.faults:
            *parts, name = fault.partition(":")[0].split(".")[1:]
            holder = left
            for part in parts:
                holder = holder[part]
            del holder[name]
            if parts[-1] == "kvOffloading":  # its size is what it is
                left["engine"].pop("kvOffloading", None)
                break
        rest, more = taken(left, release)
        return rest, (*error.faults, *more)
    return raw, ()


def test_each_name_in_the_table_is_known_to_exactly_the_releases_that_it_tells(
    of_release: RealParser, release: str
) -> None:
    known = known_to(release)
    every = {name for one in releases() for name in arguments_of(one)}
    wrong = [
        name
        for name in sorted(every)
        if ("unrecognized" in refusal(of_release, [MODEL, f"{name}="]))
        == (versions.argument_name(name, known) in known)
        and not name.startswith("-O")
        and not any(one.startswith(name) for one in known if one != name and name not in known)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("asked", "group", "fields", "understood"),
    [
        ("0.8.3", "model", {"runner": "generate"}, {"task": "generate"}),
        ("0.8.3", "model", {"runner": "pooling", "convert": "embed"}, {"task": "embed"}),
        ("0.8.3", "model", {"convert": "classify"}, {"task": "classify"}),
        ("0.8.3", "engine", {"debug": False}, {"disable_log_requests": True}),
        ("0.8.3", "engine", {"debug": True}, {"disable_log_requests": False}),
        ("0.8.3", "engine", {"reasoningParser": "deepseek_r1"}, {"enable_reasoning": True}),
        ("0.8.3", "engine", {"enableChunkedPrefill": False}, {"enable_chunked_prefill": False}),
        ("0.8.3", "engine", {"enableChunkedPrefill": True}, {"enable_chunked_prefill": True}),
        (
            "0.8.3",
            "engine",
            {"multimodalLimits": {"image": 2, "video": 0}},
            {"limit_mm_per_prompt": {"image": 2, "video": 0}},
        ),
        ("0.8.3", "engine", {"maxModelLen": "32K"}, {"max_model_len": 32768}),
        ("0.10.2", "model", {"runner": "pooling", "convert": "embed"}, {"runner": "pooling", "convert": "embed"}),
        ("0.10.2", "engine", {"debug": True}, {"enable_log_requests": True}),
        ("0.10.2", "engine", {"multimodalLimits": {"image": 2}}, {"limit_mm_per_prompt": {"image": 2}}),
        ("0.18.1", "engine", {"maxModelLen": "auto"}, {"max_model_len": -1}),
        ("0.33.0", "engine", {"enablePrefixCaching": False}, {"enable_prefix_caching": False}),
        ("0.33.0", "engine", {"debug": False}, {"enable_log_requests": False}),
    ],
)
def test_a_field_is_said_in_the_form_of_its_version(
    asked: str, group: str, fields: dict[str, Any], understood: dict[str, Any]
) -> None:
    raw: dict[str, Any] = {"model": {"source": MODEL}}
    raw[group] = {**raw.get(group, {}), **fields}
    with release_parser(asked) as parser:
        parsed = parser.parse(words_of(raw, asked))
    assert {name: parsed[name] for name in understood} == understood


def test_what_old_versions_take_from_the_environment_is_there() -> None:
    raw = {
        "model": {"source": MODEL},
        "accelerator": {"profile": "cpu"},
        "engine": {"version": "0.10.2", "attentionBackend": "TORCH_SDPA", "kvCacheMemory": "8G"},
    }
    spec = parse_spec(raw)
    told = {one["name"]: one.get("value") for one in environment(spec, "x")}
    assert (told["VLLM_ATTENTION_BACKEND"], told["VLLM_CPU_KVCACHE_SPACE"]) == ("TORCH_SDPA", "8")
    assert not {"--attention-backend", "--kv-cache-memory-bytes"} & set(words_of(raw, "0.10.2"))


def test_the_table_has_what_is_read_out_of_the_release_today(release: str) -> None:
    fetch.require(release)
    found = {name: plain(facts) for name, facts in table.read(release).items()}
    assert found == {one.name: plain_of(one) for one in known_to(release).values()}


OTHER_CHOICES: Final = {
    "--anthropic-disabled-thinking-effort",
    "--chat-template-content-format",
    "--mm-processor-device",
}

REAL_FACTS: Final = """
import json, os, sys
from tests.support.vllm_parser import build_parser, clean_output
from tools.vllm_flags.parser_program import facts
with clean_output() as answers:
    json.dump(facts(build_parser()[0]), answers)
"""


def test_the_table_has_of_the_installed_release_what_its_whole_engine_has() -> None:
    """Three lists of choices differ, of arguments without a field.

    The engine is built for CPU, and the table is of the platform that most people have; and two lists come from modules
    that do not run where the parser is made of the sources alone.
    """
    engine = real_engine().require()
    done = subprocess.run(
        [str(engine.venv / "bin" / "python"), "-P", "-c", REAL_FACTS],
        env={
            "PATH": os.environ["PATH"],
            **engine_environment(Path("/nonexistent")),
            "PYTHONPATH": str(REPOSITORY),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    told = {one.name: plain_of(one) for one in known_to(REAL_VERSION).values()}
    differing = {name for name in found if plain(found[name]) != told.get(name)}
    assert (differing, told.keys() - found.keys()) == (OTHER_CHOICES, set())


def plain(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts of a parser, with lists that are tuples in the table."""
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in facts.items() if value is not None
    }


def plain_of(argument: Argument) -> dict[str, Any]:
    """Facts of the table."""
    names = ("type", "aliases", "off", "nargs", "choices", "default")
    found = {name: getattr(argument, name) for name in names}
    return {name: value for name, value in found.items() if value not in ("", (), None)}
