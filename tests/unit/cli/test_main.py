"""The command line, as people type it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from typer.testing import CliRunner

from tests.cluster.paths import REPOSITORY
from vllm_operator.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = REPOSITORY / "manifests" / "samples" / "qwen2.5-0.5b-instruct.yaml"


def test_render_prints_the_objects_that_the_operator_would_make() -> None:
    result = CliRunner().invoke(app, ["render", "-f", str(SAMPLE), "-n", "team"])
    assert result.exit_code == 0
    rendered = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(result.stdout)}
    assert set(rendered) == {
        ("ConfigMap", "vllm-gates"),
        ("ConfigMap", "qwen-client"),
        ("Service", "qwen"),
        ("Service", "qwen-engines"),
        ("Deployment", "qwen"),
    }
    assert {one["metadata"]["namespace"] for one in rendered.values()} == {"team"}
    assert not any("ownerReferences" in one["metadata"] for one in rendered.values())


def test_render_names_the_field_that_is_wrong(tmp_path: Path) -> None:
    document = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))
    document["spec"]["engine"]["port"] = 70000
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(document), encoding="utf-8")
    result = CliRunner().invoke(app, ["render", "-f", str(wrong)])
    assert result.exit_code == 2
    assert "spec.engine.port" in result.stderr


def test_render_refuses_what_is_no_model() -> None:
    result = CliRunner().invoke(app, ["render", "-f", str(REPOSITORY / "manifests" / "base" / "roles.yaml")])
    assert result.exit_code == 2
    assert "a ClusterRole is not" in result.stderr
