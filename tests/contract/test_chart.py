"""What both Helms make of the chart, and what they refuse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.charts import (
    CHART,
    EXPECTED,
    RELEASE,
    RENDERED,
    Helm,
    by_name,
    cases,
    helm,
    rendered,
    template,
    values_file,
)
from tools.install_file import chart as about_the_chart

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster import OwnCluster


pytestmark = pytest.mark.api_server  # Helm is one of the cluster's programs

both = pytest.mark.parametrize("version", Helm)

WRONG: dict[str, Any] = {
    "image": {"tag": 20261126, "repository": "registry.example.com:5000/vllm-operator:1.0", "digest": "sha256:abc"},
    "replica": 3,
    "namespaces": ["a.b", "team-a"],
    "modelSelector": "shard=1;drop",
    "crds": {"kep": False},
    "logLevel": "debug",
    "extraEnv": [{"name": "VLLM_OPERATOR_NAMESPACES", "value": "team-a"}, {"name": "A", "value": 1}],
    "podLabels": {"app.kubernetes.io/name": "mine"},
    "affinity": {"nodeAffinity": {"required": []}},
    "nodeSelector": {"gpu": True},
    "resources": {"limits": {"memory": "1 GB"}, "cpu": 1},
    "userRoles": "yes",
    "podSecurityContext": {"runAsUser": 0, "runAsNonRoot": False},
}
REFUSALS = (
    "at '': additional properties 'replica' not allowed",
    "at '/image/tag': got number, want null or string",
    "at '/image/repository': 'registry.example.com:5000/vllm-operator:1.0' does not match pattern",
    "at '/image/digest': 'sha256:abc' does not match pattern",
    "at '/namespaces/0': 'a.b' does not match pattern",
    "at '/modelSelector': 'shard=1;drop' does not match pattern",
    "at '/crds': additional properties 'kep' not allowed",
    "at '/logLevel': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'",
    "at '/extraEnv/0/name': 'not' failed",
    "at '/extraEnv/1/value': got number, want null or string",
    "at '/podLabels/app.kubernetes.io~1name': false schema",
    "at '/affinity/nodeAffinity': additional properties 'required' not allowed",
    "at '/nodeSelector/gpu': got boolean, want null or string",
    "at '/resources/limits/memory': '1 GB' does not match pattern",
    "at '/resources': additional properties 'cpu' not allowed",
    "at '/userRoles': got string, want boolean",
    "at '/podSecurityContext': additional properties 'runAsNonRoot' not allowed",
    "at '/podSecurityContext/runAsUser': minimum: got 0, want 1",
)


def refusal(version: Helm, *options: str) -> str:
    """What a Helm says to options that it refuses."""
    done = helm(version, "template", RELEASE, str(CHART), *options, check=False)
    assert done.returncode != 0
    return done.stderr


def test_every_expected_file_has_its_values() -> None:
    assert {path.name.removesuffix(EXPECTED) for path in RENDERED.glob(f"*{EXPECTED}")} == set(cases())


@both
@pytest.mark.parametrize("case", cases())
def test_both_helms_make_what_is_expected_of_values(case: str, version: Helm) -> None:
    expected = (RENDERED / f"{case}{EXPECTED}").read_text(encoding="utf-8")
    assert rendered(case, version) == expected, "python -m tests.support.charts, and read the difference"


@both
def test_wrong_values_are_refused_all_at_once_with_their_paths(version: Helm, tmp_path: Path) -> None:
    said = refusal(version, "--values", values_file(tmp_path, WRONG))
    assert [line for line in REFUSALS if line not in said] == []


@both
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("image=null,crds=null", "at '': missing properties 'image', 'crds'"),
        ("repository=vllm-operator", "at '': additional properties 'repository' not allowed"),
        ("crds.keep=null", "at '/crds': missing property 'keep'"),
        ("namespaces=team-a", "at '/namespaces': got string, want null or array"),
        ("namespaces={a,a}", "at '/namespaces': items at 0 and 1 are equal"),
    ],
)
def test_what_would_be_dangerous_if_it_were_unset_or_doubled_is_refused(version: Helm, options: str, said: str) -> None:
    assert said in refusal(version, "--set", options)


def test_a_tag_that_yaml_takes_for_a_number_is_refused_and_as_text_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / "number.yaml").write_text("image: {tag: 1e5}\n", encoding="utf-8")
    assert "at '/image/tag': got number" in refusal(Helm.V4, "--values", str(tmp_path / "number.yaml"))
    for option in (("--set", "image.tag=1e5"), ("--set-string", "image.tag=20261126")):
        wanted = option[1].partition("=")[2]
        pod = by_name(template(*option, "--skip-tests"))["Deployment", RELEASE]["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"] == f"vllm-operator:{wanted}"


@both
def test_it_is_taken_in_by_another_chart_with_a_condition_and_what_is_global(version: Helm, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    (parent / "charts").mkdir(parents=True)
    (parent / "charts" / "vllm-operator").symlink_to(CHART)
    about = about_the_chart()
    dependency = {"name": about["name"], "version": about["version"], "condition": "vllm-operator.enabled"}
    described = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    given = {"global": {"region": "eu"}, "vllm-operator": {"enabled": True, "replicas": 1, "nodeSelector": None}}
    options = ("--skip-tests", "--values", values_file(tmp_path, given))
    objects = by_name(template(*options, version=version, chart=parent))
    assert objects["Deployment", RELEASE]["spec"]["replicas"] == 1
    left_out = template("--set", "vllm-operator.enabled=false", *options, version=version, chart=parent)
    assert by_name(left_out) == {}


def test_an_upgrade_renders_what_an_install_does() -> None:
    # what differs from time to time is a difference for ever to those who compare it with the cluster
    assert template() == template("--is-upgrade")


@both
def test_the_chart_is_sound(version: Helm) -> None:
    said = helm(version, "lint", "--strict", str(CHART)).stdout
    assert "0 chart(s) failed" in said


@pytest.mark.parametrize(
    ("options", "there", "not_there"),
    [
        ((), ("helm test", "in any namespace"), ("labels:", "-n team-a")),
        (
            ("name=blue", "namespaces={team-a,team-b}", "test.enabled=false"),
            ("vllm.echo-roots.io/operator: blue", "in one of team-a, team-b", "apply -n team-a", "blue-vllm-operator"),
            ("helm test",),
        ),
        (("crds.keep=false",), ("helm uninstall will delete the CustomResourceDefinition",), ()),
        (("crds.enabled=false", "modelSelector=shard=1"), ("somebody else's", 'meet "shard=1"'), ("will delete",)),
    ],
)
def test_the_notes_tell_the_next_step(
    api_server: OwnCluster, options: tuple[str, ...], there: tuple[str, ...], not_there: tuple[str, ...]
) -> None:
    words = [word for option in options for word in ("--set", option)]
    where = ("--namespace", "vllm-system", "--dry-run=client", "--output", "json")
    done = helm(Helm.V4, "install", RELEASE, str(CHART), *where, *words, env=api_server.env)
    printed = json.loads(done.stdout)["info"]["notes"]
    assert [text for text in there if text not in printed] == []
    assert [text for text in not_there if text in printed] == []
