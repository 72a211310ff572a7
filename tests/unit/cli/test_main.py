"""The command line, as people type it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml
from typer.testing import CliRunner

from tests.cluster.paths import REPOSITORY
from tests.support import golden
from vllm_operator.cli.main import app
from vllm_operator.cli.render import Form

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

pytestmark = pytest.mark.slow

SAMPLES = REPOSITORY / "manifests" / "samples"
SAMPLE = SAMPLES / "qwen2.5-0.5b-instruct.yaml"


def test_a_command_starts_without_what_only_others_need() -> None:
    program = """
import sys
from typer.testing import CliRunner
from vllm_operator.cli.main import app
assert "models and their engines" in CliRunner().invoke(app, ["status", "--help"]).output
print(*(name for name in sys.modules if name.startswith(("vllm_operator.cli.importing", "vllm_operator.cli.compose"))))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def render(*words: str, given: str = "") -> Result:
    """Run `kubectl-vllm render`."""
    return CliRunner().invoke(app, ["render", *words], input=given)


def test_render_prints_the_objects_that_the_operator_would_make() -> None:
    result = render("-f", str(SAMPLE), "-n", "team")
    assert result.exit_code == 0
    rendered = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(result.stdout)}
    assert {("ConfigMap", "vllm-manager"), ("ConfigMap", "qwen-client"), ("Deployment", "qwen")} <= set(rendered)
    assert {one["metadata"]["namespace"] for one in rendered.values()} == {"team"}
    assert not any("ownerReferences" in one["metadata"] for one in rendered.values())


@pytest.mark.parametrize("form", Form)
def test_several_files_and_the_standard_input_are_rendered_together(form: Form) -> None:
    second = SAMPLE.read_text(encoding="utf-8").replace("name: qwen", "name: other")
    second = second.replace("spec:", "spec:\n  service: {port: 8001}")
    result = render("-f", str(SAMPLE), "-f", "-", "--to", form, given=second)
    assert result.exit_code == 0, result.stderr
    assert "qwen" in result.stdout
    assert "other" in result.stdout


@pytest.mark.parametrize("form", Form)
def test_every_sample_is_rendered(form: Form) -> None:
    for sample in sorted(SAMPLES.glob("*.yaml")):
        result = render("-f", str(sample), "--to", form)
        if form is not Form.MANIFESTS and "  nodes: " in sample.read_text(encoding="utf-8"):
            assert "starts an engine on one machine" in result.stderr
            continue
        assert (sample.name, result.exit_code, result.stderr) == (sample.name, 0, "")


def test_each_form_has_cases_and_each_case_its_expected_file() -> None:
    assert {form for form, _ in golden.printed_cases()} == {Form.COMMAND, Form.COMPOSE}
    expected = {golden.printed_path(form, case) for form, case in golden.printed_cases()}
    assert {path for form in golden.PRINTED for path in (golden.FOLDER.parent / form).glob("*.expected.*")} == expected


@pytest.mark.parametrize(("form", "case"), golden.printed_cases())
def test_what_is_printed_is_as_expected(form: Form, case: str) -> None:
    assert golden.printed(form, case) == golden.printed_path(form, case).read_text(encoding="utf-8")


def changed(**engine: object) -> str:
    """The sample with other fields of the engine."""
    document = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))
    document["spec"]["engine"] |= engine
    return yaml.safe_dump(document)


def test_what_is_wrong_is_one_plain_line_and_exit_code_2_and_nothing_is_printed() -> None:
    result = render("-f", "-", given=changed(port=70000, dtype="fp16"))
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("error: -: qwen: spec.engine.port: ")
    assert "; spec.engine.dtype: " in result.stderr


def test_every_faulty_model_of_every_file_has_its_line(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(changed(port=0) + "---\n" + changed(blockSize=0), encoding="utf-8")
    result = render("-f", str(wrong), "-f", str(tmp_path / "none.yaml"), "-f", str(SAMPLE))
    first, second, third = result.stderr.splitlines()
    assert first.startswith(f"error: {wrong}: qwen: spec.engine.port: ")
    assert second.startswith(f"error: {wrong}: qwen: spec.engine.blockSize: ")
    assert third == f"error: {tmp_path / 'none.yaml'}: cannot be read: No such file or directory"
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"accelerator": {"profile": "tpu"}}, "spec.accelerator.profile: Compose has no reservation for tpu"),
        ({"engine": {"host": "127.0.0.1"}}, "spec.engine.host: a published port does not reach 127.0.0.1"),
        ({"service": {"port": 65535}, "replicas": 2}, "spec.service.port: 2 engines need as many ports in a row"),
    ],
)
def test_what_compose_cannot_serve_is_refused(spec: dict[str, object], told: str) -> None:
    document = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))
    document["spec"] |= spec
    result = render("-f", "-", "--to", "compose", given=yaml.safe_dump(document))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"error: qwen: {told}" in result.stderr


def test_two_models_at_one_port_are_refused_by_compose() -> None:
    second = SAMPLE.read_text(encoding="utf-8").replace("name: qwen", "name: other")
    result = render("-f", str(SAMPLE), "-f", "-", "--to", "compose", given=second)
    assert result.exit_code == 2
    assert result.stderr == "error: other: spec.service.port: the port 8000 is that of qwen: spec.service.port too\n"
