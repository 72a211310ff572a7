"""The spec as the operator reads it: defaults, bounds, and refusals that name the field."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from tests.support.resources import SOURCE, model, resource
from vllm_operator.api.resource import parse_resource
from vllm_operator.api.spec import parse_spec
from vllm_operator.errors import InvalidSpec


def refusal(**sections: Any) -> str:
    """What the user reads of a spec that cannot be followed."""
    with pytest.raises(InvalidSpec) as caught:
        parse_resource(resource(**sections))
    return str(caught.value)


def test_the_source_alone_is_a_whole_spec() -> None:
    spec = model().spec
    assert spec.served_names == (SOURCE,)
    assert spec.replicas == 1
    assert spec.parallelism.world_size == 1
    assert (spec.accelerator.profile, spec.device_resource, spec.device_count) == ("nvidia", "nvidia.com/gpu", 1)
    assert (spec.engine.port, spec.engine.shutdown_timeout_seconds) == (8000, 30)
    unset = spec.engine.model_dump(exclude={"port", "shutdown_timeout_seconds"})
    assert set(unset.values()) == {None}


@pytest.mark.parametrize(
    ("sections", "count"),
    [
        ({"parallelism": {"tensor": 4}}, 4),
        ({"parallelism": {"tensor": 4, "pipeline": 2}}, 8),
        ({"parallelism": {"pipeline": 3}}, 3),
        ({"accelerator": {"count": 0}}, 0),
        ({"parallelism": {"tensor": 2}, "accelerator": {"count": 2}}, 2),
        ({"parallelism": {"tensor": 2, "pipeline": 2, "data": 2}}, 8),
        ({"parallelism": {"tensor": 2}, "accelerator": {"profile": "cpu"}}, 0),
    ],
)
def test_the_device_count_follows_the_parallelism(sections: dict[str, Any], count: int) -> None:
    assert model(**sections).spec.device_count == count


def test_the_first_served_name_is_the_main_one() -> None:
    assert model(model={"source": SOURCE, "servedNames": ["b", "a"]}).spec.served_names == ("b", "a")


def test_fields_are_camel_case_and_units_keep_their_capitals() -> None:
    spec = model(engine={"cpuOffloadGB": 1.5, "maxModelLen": "32k", "gpuMemoryUtilization": 0.5}).spec
    assert spec.engine.cpu_offload_gb == 1.5
    assert spec.engine.max_model_len == "32k"
    assert spec.engine.gpu_memory_utilization == 0.5
    assert "engine.cpuOffloadGb" in refusal(engine={"cpuOffloadGb": 1})


@pytest.mark.parametrize(
    ("sections", "path"),
    [
        ({"modle": {}}, "spec.modle"),
        ({"model": {"source": SOURCE, "names": []}}, "spec.model.names"),
        ({"engine": {"tensorParallelSize": 2}}, "spec.engine.tensorParallelSize"),
        ({"engine": {"env": [{"name": "A", "valueFrom": {"key": "a"}}]}}, "spec.engine.env.0.valueFrom.key"),
        ({"accelerator": {"type": "a100"}}, "spec.accelerator.type"),
        ({"resources": {"claims": []}}, "spec.resources.claims"),
    ],
)
def test_an_unknown_field_is_refused_by_its_path(sections: dict[str, Any], path: str) -> None:
    assert f"{path}: Extra inputs are not permitted" in refusal(**sections)


def test_a_missing_source_is_refused_by_its_path() -> None:
    assert refusal(model={}) == "spec.model.source: Field required"


def test_every_fault_is_told_at_once() -> None:
    told = refusal(replicas=-1, engine={"port": 0})
    assert "spec.replicas: " in told
    assert "spec.engine.port: " in told


WITHIN_AND_OUTSIDE: list[tuple[str, str, list[Any], list[Any]]] = [
    ("engine", "port", [1, 65535], [0, 65536]),
    ("engine", "maxModelLen", [1, 4096, "auto", "32k", "1M"], [0, -1, "0", "32kb", "1.5k", "", " 1"]),
    ("engine", "maxNumBatchedTokens", [1, 16777216], [0, 16777217]),
    ("engine", "gpuMemoryUtilization", [0.001, 1, 1.0], [0, -0.1, 1.001, "high"]),
    ("engine", "cpuOffloadGB", [0, 0.5, 65536], [-1, 65537]),
    ("engine", "blockSize", [1, 1024, 4096], [0, -1]),
    ("engine", "image", ["a:1", "registry.example.com/vllm@sha256:0"], ["", "a b"]),
    ("engine", "extraArgs", [[], ["--max-logprobs", "b"], ["x"] * 128], [["x"] * 129, [""], ["x" * 4097], "--a"]),
    ("engine", "env", [[], [{"name": "A"}], [{"name": "A_1.b-c", "value": ""}]], [[{"name": "1A"}], [{"value": "x"}]]),
    ("engine", "debug", [True, False], ["loud"]),
    ("model", "revision", ["main", "a" * 40], ["", "-x", "a b"]),
    ("model", "servedNames", [["a"], ["a"] * 16], [[], [""], ["-a"], ["a b"], ["a"] * 17]),
    ("parallelism", "tensor", [1, 64], [0, 65]),
    ("parallelism", "pipeline", [1, 64], [0, 65]),
    ("accelerator", "count", [0, 64], [-1, 65]),
    (
        "accelerator",
        "resource",
        ["nvidia.com/gpu", "nvidia.com/mig-1g.5gb", "gpu"],
        ["", "/gpu", "a/b/c", "nvidia.com/"],
    ),
    (
        "resources",
        "limits",
        [{}, {"cpu": "500m", "memory": "16Gi"}, {"cpu": "4"}],
        [{"cpu": "four"}, {"cpu": "1e1.5"}, {"cpu": 1.5}],
    ),
]


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [(section, field, value) for section, field, within, _ in WITHIN_AND_OUTSIDE for value in within],
)
def test_a_value_within_its_bounds_is_taken(section: str, field: str, value: Any) -> None:
    given = {"model": {"source": SOURCE}} | {
        section: ({"source": SOURCE} if section == "model" else {}) | {field: value}
    }
    spec = parse_spec(given).model_dump(by_alias=True)
    assert spec[section][field] == (value if field != "env" else spec[section][field])


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [(section, field, value) for section, field, _, outside in WITHIN_AND_OUTSIDE for value in outside],
)
def test_a_value_outside_its_bounds_is_refused_by_its_path(section: str, field: str, value: Any) -> None:
    base = {"source": SOURCE} if section == "model" else {}
    assert f"spec.{section}.{field}" in refusal(**{section: base | {field: value}})


@pytest.mark.parametrize(("written", "kept"), [("0.5", "500m"), (4, "4"), ("1024Mi", "1Gi"), ("1e3", "1e3")])
def test_quantities_are_kept_as_the_api_server_writes_them(written: str | int, kept: str) -> None:
    assert model(resources={"limits": {"cpu": written}}).spec.resources.limits == {"cpu": kept}


@pytest.mark.parametrize(
    ("profile", "resource"),
    [
        ("amd", "amd.com/gpu"),
        ("gaudi", "habana.ai/gaudi"),
        ("tpu", "google.com/tpu"),
        ("xpu", "gpu.intel.com/xe"),
        ("ascend", "huawei.com/Ascend910"),
        ("neuron", "aws.amazon.com/neuroncore"),
    ],
)
def test_a_profile_names_its_resource_unless_the_user_does(profile: str, resource: str) -> None:
    assert model(accelerator={"profile": profile}).spec.device_resource == resource
    assert model(accelerator={"profile": profile, "resource": "a/b"}).spec.device_resource == "a/b"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("org/tiny", "org/tiny"),
        ("hf://org/tiny", "org/tiny"),
        ("/models/tiny", "/models/tiny"),
        ("pvc://claim/a/tiny/", "tiny"),
        ("pvc://claim", "claim"),
        ("s3://bucket/a/tiny", "tiny"),
        ("gs://bucket", "bucket"),
        ("oci://registry.example.com:5000/a/tiny:v1", "tiny"),
        ("oci://registry.example.com/tiny@sha256:00", "tiny"),
    ],
)
def test_a_model_is_served_under_the_name_that_people_know_it_by(source: str, name: str) -> None:
    assert model(model={"source": source}).spec.served_names == (name,)


@pytest.mark.parametrize(
    ("words", "path", "told"),
    [
        (["--max-model", "32k"], "spec.engine.extraArgs.0", "vLLM reads --max-model as --max-model-len, which has"),
        (["--max-logprobs", "1", "--see=1"], "spec.engine.extraArgs.2", "vLLM reads --see=1 as --seed"),
        (["--no-trust-remote"], "spec.engine.extraArgs.0", "as --no-trust-remote-code"),
        (["--api"], "spec.engine.extraArgs.0", "as --api-key, which is set by the operator"),
        (["-qawq"], "spec.engine.extraArgs.0", "vLLM reads -qawq as -q, which has a field of its own"),
        (["-r1"], "spec.engine.extraArgs.0", "vLLM reads -r1 as -r, which cannot be used"),
    ],
)
def test_a_shortened_argument_is_refused_like_the_whole_one(words: list[str], path: str, told: str) -> None:
    said = refusal(engine={"extraArgs": words})
    assert said.startswith(f"{path}: ")
    assert told in said


@pytest.mark.parametrize(
    "words", [["--api-server-count", "0"], ["--api_server_count=0"], ["-asc", "-1"], ["--api-server-count=00"]]
)
def test_an_engine_without_a_server_is_refused(words: list[str]) -> None:
    said = refusal(engine={"extraArgs": ["--max-logprobs", "3", *words]})
    assert said.startswith("spec.engine.extraArgs.2: ")
    assert "0 starts no HTTP server: leave it out" in said


@pytest.mark.parametrize(
    "words", [["--api-server-count", "2"], ["-asc=10"], ["--api-server-count"], ["--max-logprobs", "0"]]
)
def test_an_engine_with_several_servers_is_not(words: list[str]) -> None:
    assert model(engine={"extraArgs": words}).spec.engine.extra_args == words


@pytest.mark.parametrize(
    "words", [["--max-logprobs", "-1"], ["-O3"], ["--root-path", "-"], ["--", "-x"], ["-cc.mode", "3"]]
)
def test_arguments_without_a_field_pass(words: list[str]) -> None:
    assert model(engine={"extraArgs": words}).spec.engine.extra_args == words


@pytest.mark.parametrize(
    "path",
    [
        "model.loaderExtraConfig",
        "model.hfOverrides",
        "engine.kvTransferConfig",
        "engine.kvEventsConfig",
        "engine.compilationConfig",
        "engine.speculativeDecoding.extraConfig",
    ],
)
def test_an_object_for_the_command_line_shows_no_secret(path: str) -> None:
    *groups, name = path.split(".")

    def holding(text: str) -> dict[str, Any]:
        parts: dict[str, Any] = {"model": {"source": SOURCE}, "engine": {"speculativeDecoding": {"method": "suffix"}}}
        holder = parts
        for group in groups:
            holder = holder[group]
        holder[name] = {"a": [{"b": text}]}
        return parts

    assert refusal(**holding("x$(VLLM_API_KEY)")).startswith(f"spec.{path}: must not refer to an API key or a token")
    assert model(**holding("x$(POD_IP)")).spec.served_names == (SOURCE,)


@pytest.mark.parametrize(("name", "field"), [("method", "method"), ("num_speculative_tokens", "numSpeculativeTokens")])
def test_what_has_a_field_is_not_said_under_its_name_in_vllm(name: str, field: str) -> None:
    draft = {"method": "suffix", "extraConfig": {"draft_sample_method": "greedy", name: "x"}}
    assert refusal(engine={"speculativeDecoding": draft}) == (
        f"spec.engine.speculativeDecoding.extraConfig.{name}: set spec.engine.speculativeDecoding.{field}"
    )


def test_what_was_applied_before_its_argument_got_a_field_is_followed_as_it_is() -> None:
    words = ["--enable-chunked-prefill", "--kv-transfer-config", '{"kv_role": "kv_both"}', "--download-dir=/weights"]
    assert model(engine={"extraArgs": words}).spec.engine.extra_args == words


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ a", "line 1 is no valid Jinja: "),
        ("a\n{% if x %}", "line 2 is no valid Jinja: "),
        ("{% raise %}", "unknown tag 'raise'"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "is nested too deeply"),
    ],
)
def test_a_chat_template_that_cannot_be_read_is_refused(template: str, told: str) -> None:
    said = refusal(model={"source": SOURCE, "chatTemplate": {"inline": template}})
    assert said.startswith("spec.model.chatTemplate.inline: ")
    assert told in said


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{{ m | tojson }}{% endfor %}",
        "{% generation %}{{ messages[0].content }}{% endgeneration %}",
        "{{ raise_exception('no') }}{{ strftime_now('%d') }}{%- set ns = namespace(a=1) -%}",
        "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(1) }}",
    ],
)
def test_the_language_of_chat_templates_is_known_and_never_run(template: str) -> None:
    chat_template = model(model={"source": SOURCE, "chatTemplate": {"inline": template}}).spec.model.chat_template
    assert chat_template is not None
    assert chat_template.inline == template


@pytest.mark.parametrize("replicas", [-1, 1001, "many", None])
def test_replicas_out_of_bounds_are_refused(replicas: Any) -> None:
    assert refusal(replicas=replicas).startswith("spec.replicas: ")


@pytest.mark.parametrize("source", ["", "-x", "a b", "a" * 1025])
def test_a_source_that_vllm_would_take_for_a_flag_or_two_words_is_refused(source: str) -> None:
    assert "spec.model.source" in refusal(model={"source": source})


def test_a_parsed_spec_cannot_be_changed() -> None:
    with pytest.raises(pydantic.ValidationError):
        model().spec.replicas = 2  # type: ignore[misc]
