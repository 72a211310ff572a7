"""The real vLLM understands our command line as the spec means it: its own argument parser is asked."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings

from tests.support.specs import setting, specs, value_at
from tests.support.vllm_parser import ParserRefusalError, RealParser
from vllm_operator.api.spec import VLLMModelSpec, parse_spec
from vllm_operator.api.spec.arguments import (
    OWNED,
    REMOVED,
    UNSUITED,
    WITHOUT_SERVER,
    abbreviation_of,
    refused_arguments,
)
from vllm_operator.api.spec.flag import FlaggedField, flagged_fields
from vllm_operator.manager import keys
from vllm_operator.render.command import arguments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.real_vllm

FIELDS: Final = {".".join(field.path): field for field in flagged_fields(VLLMModelSpec)}
MODEL: Final = "org/tiny"
EXAMPLES: Final = 300

TEMPLATE: Final = __file__
"""Stands for the chat template of a spec: vLLM looks whether the file is there."""

UNITS: Final = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

NEVER_GIVEN: Final = {"parallelism.nodes": "generated specs have one pod an engine"}


REAL_VERSION: Final = "0.32.0"
"""Of the engine that is installed."""


def words_of(raw: dict[str, Any], version: str = REAL_VERSION) -> list[str]:
    """What follows `vllm serve` in the container, for engines of a version; of an empty one where nobody tells it."""
    return filled(arguments(parse_spec(of_version(raw, version))))


def of_version(raw: dict[str, Any], version: str) -> dict[str, Any]:
    """The spec for engines of a version; for an empty one, of which no version is known."""
    told = {"version": version} if version else {"image": "example.com/own:1"}
    engine = {name: value for name, value in raw.get("engine", {}).items() if name not in {"image", "version"}}
    return {**raw, "engine": {**engine, **told}}


def filled(words: list[str]) -> list[str]:
    """The words as the container's runtime hands them on, and with a chat template that is there."""
    found = [re.sub(r"\$\((\w+)\)", r"value-of-\1", word) for word in words]
    return [
        TEMPLATE if before == "--chat-template" else word for before, word in zip(["", *found], found, strict=False)
    ]


def images_of(raw: dict[str, Any]) -> list[str]:
    """The images that a spec names, in the order in which their volumes are numbered."""
    model, engine = raw["model"], raw.get("engine", {})
    drafts = [engine.get("speculativeDecoding", {}).get("model", "")]
    loras = [adapter["source"] for adapter in raw.get("lora", {}).get("adapters", [])]
    sources = [model["source"], model.get("tokenizer", ""), *drafts, *loras]
    return list(dict.fromkeys(source for source in sources if source.startswith("oci://")))


def located(source: str, images: list[str]) -> str:
    """Where the engine finds a source."""
    scheme, separator, rest = source.partition("://")
    if not separator or scheme in {"s3", "gs"}:
        return source
    if scheme == "oci":
        return f"/mnt/images/{images.index(source)}"
    return {"hf": rest, "pvc": f"/mnt/claims/{rest}".rstrip("/")}[scheme]


def number(text: Any, _: list[str]) -> Any:
    """A number as vLLM's guide says: `32k` is 32,000, `32K` is 32,768, `auto` is -1."""
    if not isinstance(text, str):
        return text
    if text == "auto":
        return -1
    unit = UNITS.get(text[-1], 1)
    return int(float(text.rstrip("kmgtKMGT")) * unit)


def draft(config: dict[str, Any], images: list[str]) -> dict[str, Any]:
    """Fields of speculative decoding under vLLM's names."""
    named = {name: value for name, value in config.items() if name != "extraConfig"}
    plain = {re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name): value for name, value in named.items()}
    plain |= config.get("extraConfig", {})
    return plain | ({"model": located(plain["model"], images)} if "model" in plain else {})


def adapters(found: list[dict[str, str]], images: list[str]) -> list[dict[str, Any]] | None:
    """Adapters as vLLM keeps them."""
    rest = {"base_model_name": None, "is_3d_lora_weight": False}
    return [{"name": one["name"], "path": located(one["source"], images), **rest} for one in found] or None


def unlogged(paths: list[str], _: list[str]) -> str:
    """Paths in one word."""
    return ",".join(paths)


MEANT: Final[dict[str, Callable[[Any, list[str]], Any]]] = {
    "model.source": located,
    "model.tokenizer": located,
    "model.chatTemplate": lambda *_: TEMPLATE,
    "engine.maxModelLen": number,
    "engine.kvCacheMemory": number,
    "engine.speculativeDecoding": draft,
    "engine.optimizationLevel": lambda level, _: str(level),
    "lora.adapters": adapters,
    "engine.disableAccessLogForEndpoints": unlogged,
}
"""What a value means, where it is not what stands in the spec."""

DESTINATIONS: Final = {"model.source": "model_tag"}
"""Where vLLM keeps a value, if not under the name of the argument."""


def destination(path: str) -> str:
    """Where vLLM keeps the value of a field."""
    return DESTINATIONS.get(path, FIELDS[path].flag.name.removeprefix("--").replace("-", "_"))


def meant(path: str, value: Any, images: list[str]) -> Any:
    """What vLLM shall understand of a field's value."""
    if value is False and not FIELDS[path].flag.off:
        return None  # left out, as vLLM's own default is
    return MEANT[path](value, images) if path in MEANT else value


def understood(parser: RealParser, raw: dict[str, Any]) -> dict[str, Any]:
    """What vLLM understands of a spec, by the paths of its fields."""
    parsed = parser.parse(words_of(raw))
    return {path: _given(value_at(raw, path), parsed[destination(path)]) for path in FIELDS}


def _given(value: Any, understood: Any) -> Any:
    """Of an object that vLLM completes by its defaults, what was given."""
    if isinstance(value, dict) and isinstance(understood, dict) and value.keys() <= understood.keys():
        return {name: understood[name] for name in value}
    return understood


def expected(raw: dict[str, Any], unset: dict[str, Any]) -> dict[str, Any]:
    """What it shall understand; `unset` is what it takes where a field is not set."""
    images = images_of(raw)
    wanted = unset | {"model.source": located(raw["model"]["source"], images)}
    for path in FIELDS:
        value = value_at(raw, path)
        found = None if value is None else meant(path, value, images)
        if found is not None:
            wanted[path] = found
    source = raw["model"]["source"]
    if source.startswith(("s3:", "gs:")) and "loadFormat" not in raw["model"]:
        wanted["model.loadFormat"] = "runai_streamer"
    if value_at(raw, "engine.debug") and value_at(raw, "engine.enableLogRequests") is None:
        wanted["engine.enableLogRequests"] = True
    if value_at(raw, "lora.runtimeUpdates"):  # the manager tells a running engine of them
        wanted["lora.adapters"] = unset["lora.adapters"]
    if "servedNames" not in raw["model"]:
        wanted["model.servedNames"] = list(parse_spec(raw).served_names)
    return wanted


@pytest.fixture(scope="module")
def unset(parser: RealParser) -> dict[str, Any]:
    """What vLLM takes where a field is not set, with what the operator sets by itself."""
    parsed = parser.parse([MODEL])
    return {path: parsed[destination(path)] for path in FIELDS} | {"engine.shutdownTimeoutSeconds": 30}


@given(raw=specs())
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None)
def test_vllm_understands_a_generated_spec_as_it_is_meant(
    parser: RealParser, unset: dict[str, Any], raw: dict[str, Any]
) -> None:
    raw.get("storage", {}).get("cache", {}).pop("prefetch", None)  # what a Job brings is a folder, as golden files show
    assert understood(parser, raw) == expected(raw, unset)


@pytest.mark.parametrize("variant", [0, 1])
@pytest.mark.parametrize("path", FIELDS)
def test_every_field_with_an_argument_takes_part(
    parser: RealParser, unset: dict[str, Any], path: str, variant: int
) -> None:
    raw = setting(path, variant)
    value = value_at(raw, path)
    assert value is not None
    found = understood(parser, raw)
    assert found == expected(raw, unset)
    given_at_all = path not in NEVER_GIVEN and meant(path, value, images_of(raw)) is not None
    assert given_at_all == (FIELDS[path].flag.name in words_of(raw) or path == "model.source" or not_on(path, value))


def not_on(path: str, value: Any) -> bool:
    """Whether a switch is turned off by an argument of its own."""
    return value is False and bool(FIELDS[path].flag.off)


def test_a_switch_that_is_on_by_default_can_be_turned_off(parser: RealParser) -> None:
    off = [path for path, field in FIELDS.items() if field.flag.off]
    assert off
    for path in off:
        group, _, name = path.rpartition(".")
        raw = {"model": {"source": MODEL}, group: {name: False}}
        assert understood(parser, raw)[path] is False


def test_several_api_keys_are_given_by_a_file(parser: RealParser, tmp_path: Path) -> None:
    raw = {"model": {"source": MODEL}, "auth": {"generate": True, "keys": [{"name": "old", "key": "k"}]}}
    given = {"VLLM_API_KEY": "first", "API_KEY_2": "second: 2"}
    words = [*words_of(raw), *keys.arguments(tuple(given), given, [str(tmp_path)])]
    assert parser.parse(words)["api_key"] == ["first", "second: 2"]


def test_the_files_of_a_server_with_https_are_given_and_watched(parser: RealParser) -> None:
    parsed = parser.parse(words_of({"model": {"source": MODEL}, "engine": {"tls": {"secretName": "a"}}}))
    folder = "/run/vllm-manager/certificate"
    assert (parsed["ssl_certfile"], parsed["ssl_keyfile"]) == (f"{folder}/tls.crt", f"{folder}/tls.key")
    assert parsed["enable_ssl_refresh"] is True


def test_arguments_of_the_user_come_last_and_with_their_variables(parser: RealParser) -> None:
    raw = {"model": {"source": MODEL}, "engine": {"extraArgs": ["--max-logprobs", "9", "--root-path=/$(NAME)"]}}
    parsed = parser.parse(words_of(raw))
    assert (parsed["max_logprobs"], parsed["root_path"]) == (9, "/value-of-NAME")


def given_alone(parser: RealParser, words: list[str]) -> str:
    """What vLLM says of arguments; nothing where it takes them."""
    try:
        parser.parse([MODEL, *words])
    except ParserRefusalError as error:
        return str(error)
    return ""


def names(field: FlaggedField) -> list[str]:
    """Every spelling of a field's argument."""
    return [name for name in (field.flag.name, *field.flag.short, field.flag.off) if name]


KNOWN: Final = sorted(
    {*OWNED, *UNSUITED, *WITHOUT_SERVER, *(name for field in FIELDS.values() for name in names(field))}
)


@pytest.mark.parametrize("name", KNOWN)
def test_vllm_knows_every_argument_that_we_give_or_refuse(parser: RealParser, name: str) -> None:
    said = given_alone(parser, [f"{name}="])
    assert "unrecognized" not in said
    assert "ambiguous" not in said


@pytest.mark.parametrize("name", [name for name in KNOWN if name.startswith("--")])
def test_the_names_that_we_know_are_whole_ones(parser: RealParser, name: str) -> None:
    """The beginning of a name is completed, and a newer vLLM may take it for another one."""
    parsed = parser.parse([MODEL])
    assert {
        name[2:].replace("-", "_"),
        name[2:].removeprefix("no-").replace("-", "_"),
    } & parsed.keys() or name in ALIASES


ALIASES: Final = {"--device-memory-utilization"}
"""Whole names that are not those under which vLLM keeps the value."""


@pytest.mark.parametrize("name", [name for name in refused_arguments(VLLMModelSpec) if name.startswith("--no-")])
def test_every_switch_whose_opposite_we_refuse_has_one(parser: RealParser, name: str) -> None:
    assert "unrecognized" not in given_alone(parser, [name])


@pytest.mark.parametrize("word", ["--max-logprobs 7", " --max-logprobs=7", "--enforce-eager "])
def test_vllm_takes_two_words_in_one_for_none_of_its_own(parser: RealParser, word: str) -> None:
    assert "unrecognized arguments" in given_alone(parser, [word])


@pytest.mark.parametrize("name", REMOVED)
def test_vllm_refuses_every_argument_that_we_call_gone(parser: RealParser, name: str) -> None:
    said = given_alone(parser, [name, "1"])
    assert "unrecognized arguments" in said or "ambiguous option" in said


def test_an_argument_without_a_field_is_not_taken_for_the_beginning_of_one_with_a_field(parser: RealParser) -> None:
    refused = refused_arguments(VLLMModelSpec)
    named = {"--" + name.replace("_", "-") for name in parser.parse([MODEL])}
    free = named - refused.keys()
    assert len(free) > len(refused)
    assert {name: abbreviation_of(name, refused) for name in free if abbreviation_of(name, refused)} == {}


PLAIN_DEFAULTS: Final = {
    path: field
    for path, field in FIELDS.items()
    if re.fullmatch(r"-?[0-9.]+|[a-z_0-9]+", field.flag.default) and path != "model.source"
}


def test_most_defaults_are_plain_values_that_can_be_checked() -> None:
    assert len(PLAIN_DEFAULTS) > len(FIELDS) // 2


@pytest.mark.parametrize("path", PLAIN_DEFAULTS)
def test_the_default_that_we_document_is_that_of_vllm(parser: RealParser, path: str) -> None:
    told, kept = PLAIN_DEFAULTS[path].flag.default, parser.parse([MODEL])[destination(path)]
    if path == "engine.optimizationLevel":  # a level that is given stays a number, and the default has a name
        kept = int(kept.removeprefix("O"))
    words = {"true": True, "false": False, "none": False}
    number = told[-1].isdigit()
    assert (kept or False) == (words[told] if told in words else ast.literal_eval(told) if number else told)
