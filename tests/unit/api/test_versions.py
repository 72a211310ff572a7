"""Which vLLM an engine is, and what is told of a spec that it does not take."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import SOURCE, model
from vllm_operator.api.spec.versions import argument_name, engine_version, image_version, warnings
from vllm_operator.api.vllm_releases import Version, arguments_of
from vllm_operator.errors import InvalidSpec
from vllm_operator.render.command import arguments

OLD = {"version": "0.8.5"}


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("vllm/vllm-openai:v0.10.2", "0.10.2"),
        ("docker.io/vllm/vllm-openai:v0.8.5.post1", "0.8.5.post1"),
        ("registry.example.com:5000/mirror/vllm/vllm-openai:v0.9.0.1@sha256:ab", "0.9.0.1"),
        ("vllm/vllm-openai-cpu:v0.32.0-x86_64", "0.32.0"),
        ("vllm/vllm-openai-rocm:v0.32.0", "0.32.0"),
        ("public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.9.1", "0.9.1"),
        ("rocm/vllm:rocm7.0.0_ubuntu_22.04_vllm_0.11.2_20251210", "0.11.2"),
        ("example.com/own:cuda13-vllm0.32.0", "0.32.0"),
        ("vllm/vllm-openai:v0.11.0rc1", ""),
        ("vllm/vllm-openai:v0.11.0-rc1", ""),
        ("vllm/vllm-openai:nightly", ""),
        ("vllm/vllm-openai:latest", ""),
        ("vllm/vllm-openai", ""),
        ("vllm/vllm-openai@sha256:ab", ""),
        ("lmcache/vllm-openai:v0.9.2", ""),
        ("registry.example.com:5000/vllm/vllm-openai", ""),
        ("example.com/own:v0.10.2", ""),
        ("", ""),
    ],
)
def test_an_image_tells_its_version_only_where_the_tag_is_vllms(image: str, version: str) -> None:
    assert str(image_version(image) or "") == version


def told(**sections: Any) -> str:
    """The version of a model's engines, and what tells it."""
    found = engine_version(model(**sections).spec)
    return f"{found.version} {found.source}" if found else ""


def patched(image: str) -> dict[str, Any]:
    """A patch that gives the engine another image."""
    return {"patch": {"spec": {"containers": [{"name": "vllm", "image": image}]}}}


def test_what_the_spec_says_counts_before_the_patch_before_the_image_before_the_profile() -> None:
    image = {"image": "vllm/vllm-openai:v0.23.0"}
    assert told() == "0.32.0 the tag of the image of spec.accelerator.profile"
    assert told(engine=image) == "0.23.0 the tag of the image in spec.engine.image"
    assert (
        told(engine=image, pod=patched("vllm/vllm-openai:v0.31.0")) == "0.31.0 the tag of the image in spec.pod.patch"
    )
    assert told(engine=image, pod=patched("example.com/own:1")) == ""
    assert told(engine={**image, "version": "v0.10.2"}, pod=patched("x")) == "0.10.2 spec.engine.version"


def refusal(**sections: Any) -> str:
    """What a spec is refused with."""
    with pytest.raises(InvalidSpec) as caught:
        model(**sections)
    return str(caught.value)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"engine": {"image": "vllm/vllm-openai:v0.10.2", "maxNumQueuedReqs": 8}},
            (
                "spec.engine.maxNumQueuedReqs: needs vLLM 0.29.0 or newer; this is 0.10.2, by the tag of the image in "
                "spec.engine.image: leave it out, or take a newer image; if it is another version, say so in "
                "spec.engine.version"
            ),
        ),
        ({"engine": {**OLD, "kvOffloading": {"sizeGib": 1}}}, "spec.engine.kvOffloading.sizeGib: needs vLLM 0.11.1"),
        ({"engine": {**OLD, "maxModelLen": "auto"}}, "spec.engine.maxModelLen: `auto` needs vLLM 0."),
        (
            {"engine": {**OLD, "blockSize": 48}},
            "spec.engine.blockSize: vLLM 0.8.5 takes 1, 8, 16, 32, 64, 128, and no 48",
        ),
        ({"engine": OLD, "model": {"source": SOURCE, "runner": "pooling"}}, "spec.model.runner: this vLLM has --task"),
        (
            {"engine": {**OLD, "kvCacheMemory": "1500M"}, "accelerator": {"profile": "cpu"}},
            "spec.engine.kvCacheMemory: takes whole GiB on CPU before vLLM 0.",
        ),
        ({"engine": {**OLD, "disableAccessLogForEndpoints": ["/ping"]}}, "needs vLLM 0.16.0 or newer"),
    ],
)
def test_what_a_version_cannot_be_told_is_refused_with_the_one_that_can(sections: dict[str, Any], said: str) -> None:
    assert said in refusal(**sections)


def test_of_an_unknown_version_nothing_is_refused_and_nothing_told() -> None:
    fields = {"maxNumQueuedReqs": 8, "maxModelLen": "auto", "blockSize": 48, "extraArgs": ["--swap-space", "4"]}
    spec = model(engine={"image": "vllm/vllm-openai@sha256:ab", **fields}).spec
    assert warnings(spec) == []
    assert "--max-num-queued-reqs" in arguments(spec)


def test_of_a_version_that_no_table_has_yet_only_known_things_are_judged() -> None:
    spec = model(engine={"version": "99.0.0", "blockSize": 48, "extraArgs": ["--from-the-future", "4"]}).spec
    assert warnings(spec) == []
    assert arguments(spec)[-2:] == ["--from-the-future", "4"]


@pytest.mark.parametrize(
    ("version", "words", "said"),
    [
        ("0.10.2", ["--max-logprob-s", "1"], "--max-logprob-s is unknown: is --max-logprobs meant?"),
        ("0.10.2", ["--no-such-thing-at-all"], "--no-such-thing-at-all is unknown."),
        (
            "0.32.0",
            ["--swap-space=4"],
            "--swap-space is gone since vLLM 0.18.0: leave it out, or set spec.engine.kvOff",
        ),
        ("0.32.0", ["--worker-use-ray"], "--worker-use-ray is gone since vLLM 0.8.0: leave it out"),
        ("0.10.2", ["--structured-outputs-config.backend=x"], "--structured-outputs-config needs vLLM 0.11.0 or newer"),
        ("0.33.0", ["--disable-prefix-caching"], "is another spelling of --enable-prefix-caching: set spec.engine."),
    ],
)
def test_words_that_a_version_does_not_know_are_told_and_never_refused(
    version: str, words: list[str], said: str
) -> None:
    spec = model(engine={"version": version, "extraArgs": words}).spec
    (sentence,) = warnings(spec)
    assert sentence.startswith("spec.engine.extraArgs: ")
    assert said in sentence
    assert sentence.endswith(f". The engine is vLLM {version}, by spec.engine.version")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (
            "0.10.2",
            [
                "--swap-space",
                "4",
                "--guided-decoding-backend",
                "xgrammar",
                "-O3",
                "--max_logprobs=-1",
                "--max-logp",
                "1",
            ],
        ),
        ("0.32.0", ["--structured-outputs-config", '{"backend": "xgrammar"}', "--root-path", "-", "--", "-1"]),
        ("0.33.0", ["--compilation-config.mode=3", "-cc.mode", "3", "--download-dir=/weights"]),
    ],
)
def test_words_that_it_knows_are_not_told(version: str, words: list[str]) -> None:
    assert warnings(model(engine={"version": version, "extraArgs": words}).spec) == []


def test_many_unknown_words_are_told_in_one_sentence() -> None:
    words = [f"--no-such-{number}-thing" for number in range(9)]
    (sentence,) = warnings(model(engine={"version": "0.10.2", "extraArgs": words}).spec)
    assert sentence.count("is unknown") == 5
    assert "; and 4 more. The engine" in sentence


def test_a_word_that_a_plug_in_may_bring_is_told_and_not_refused() -> None:
    (sentence,) = warnings(model(engine={**OLD, "quantization": "ascend"}).spec)
    assert sentence.startswith("spec.engine.quantization: vLLM 0.8.5 takes ")
    assert sentence.endswith(", and no ascend")


def test_an_old_version_gets_neither_the_shutdown_timeout_nor_unlogged_paths() -> None:
    spec = model(engine={"version": "0.10.2"}).spec
    assert arguments(spec, ("/health",)) == [SOURCE, "--served-model-name", SOURCE]


def test_the_task_may_stand_in_further_arguments_of_an_old_version() -> None:
    one = model(engine={**OLD, "extraArgs": ["--task", "reward"]}, model={"source": SOURCE, "runner": "pooling"})
    assert arguments(one.spec) == [SOURCE, "--served-model-name", SOURCE, "--task", "reward"]
    assert warnings(one.spec) == []


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("--max_logprobs=5", "--max-logprobs"),
        ("--max-logp", "--max-logprobs"),
        ("--max-l", "--max-l"),
        ("-tp", "-tp"),
        ("-tp4", "-tp4"),
        ("-qawq", "-q"),
        ("--no-such", "--no-such"),
        ("-1", ""),
        ("-O3", ""),
        ("--", ""),
        ("value", ""),
    ],
)
def test_a_word_names_the_argument_that_vllm_reads_it_as(word: str, name: str) -> None:
    version = Version.read("0.10.2")
    assert version is not None
    assert argument_name(word, arguments_of(version)) == name
