"""The Helm chart, and what both Helms make of it.

Expected outputs lie beside their values: tests/data/chart/rendered/NAME.values.yaml and NAME.expected.yaml; so do
those of the values files that the chart brings. `python -m tests.support.charts` writes the expected files anew; read
the difference before you commit it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster.binaries import ensure_binaries
from tests.cluster.paths import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.cluster import OwnCluster

CHART = REPOSITORY / "charts" / "vllm-operator"
EXAMPLES = CHART / "examples"
DATA = REPOSITORY / "tests" / "data" / "chart"
BEFORE = DATA / "before"
"""The chart as it was before it had a schema, without its definition."""
RENDERED = DATA / "rendered"
VALUES, EXPECTED = ".values.yaml", ".expected.yaml"

_FROM_FILES = (
    ("CustomResourceDefinition", "spec", "crds/"),
    ("PrometheusRule", "spec", "files/"),
    ("ConfigMap", "data", "files/dashboards/"),
)

_SHORT_NAME = "    shortNames:\n    - vllm\n"

RELEASE, NAMESPACE = "vllm-operator", "vllm-system"
FROM_MONITORING = "networkPolicy.allowFrom[0].namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name=monitoring"
"""Lets a Prometheus in the namespace monitoring in, as an argument of `--set`."""
SECONDS = 720.0

Objects = dict[tuple[str, str], dict[str, Any]]


class Helm(StrEnum):
    """The Helms that there are, by the names of their programs."""

    V3 = "helm3"
    V4 = "helm"


def helm(
    version: Helm, *arguments: str, env: Mapping[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a Helm."""
    command = [str(ensure_binaries() / version), *arguments]
    done = subprocess.run(
        command, env=None if env is None else dict(env), capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def template(*options: str, version: Helm = Helm.V4, chart: Path = CHART) -> str:
    """What the chart makes of some options, of which the last one counts."""
    return helm(version, "template", RELEASE, str(chart), "--namespace", NAMESPACE, *options).stdout


def chart_objects(*settings: str) -> Objects:
    """What the chart makes of settings (`key=value`), by kind and name; of one name in several namespaces, the last."""
    documents = documents_of(template(*(word for one in settings for word in ("--set", one))))
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


def documents_of(text: str) -> list[dict[str, Any]]:
    """The objects in a text. libyaml reads the definition in a tenth of the time."""
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def by_name(text: str) -> Objects:
    """Objects by kind and name."""
    documents = documents_of(text)
    found = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    assert len(found) == len(documents)
    return found


def cases() -> dict[str, Path]:
    """Values files whose outputs are kept, by name."""
    own = {path.name.removesuffix(VALUES): path for path in RENDERED.glob(f"*{VALUES}")}
    return {**own, **{path.stem: path for path in EXAMPLES.glob("*.yaml")}}


def rendered(case: str, version: Helm) -> str:
    """What a Helm makes of a values file, in an order of its own; of whole files, only what the chart adds to them."""
    documents = documents_of(template("--values", str(cases()[case]), version=version))
    for document in documents:
        for kind, key, folder in _FROM_FILES:
            if document["kind"] == kind:
                document[key] = f"as in {folder}"
    return yaml.safe_dump_all(sorted(documents, key=_place), sort_keys=False, width=120)


def _place(document: dict[str, Any]) -> tuple[str, str, str]:
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]


def former_chart(folder: Path) -> Path:
    """The chart of before as a folder: with the definition of now, which was a template too, but for its short name."""
    for path in (*BEFORE.rglob("*"), CHART / "templates" / "crd.yaml"):
        if path.is_file():
            base = BEFORE if path.is_relative_to(BEFORE) else CHART
            target = folder / path.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text(encoding="utf-8").replace(_SHORT_NAME, "")
            target.write_text(text, encoding="utf-8")
    return folder


def values_file(folder: Path, values: object) -> str:
    """A file for `--values`."""
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(path)


class Release:
    """A release in a cluster, and one Helm to work on it."""

    def __init__(self, cluster: OwnCluster, version: Helm, *, name: str = RELEASE, namespace: str = NAMESPACE) -> None:
        self.cluster, self.version, self.name, self.namespace = cluster, version, name, namespace

    def __call__(self, verb: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command of Helm about it."""
        where = ("--namespace", self.namespace)
        return helm(self.version, verb, self.name, *words, *where, env=self.cluster.env, check=check)

    def install(self, *options: str, chart: Path = CHART) -> None:
        """Install it."""
        self("install", str(chart), *options)

    def upgrade(self, *options: str, chart: Path = CHART) -> None:
        """Upgrade it, with the values that it has."""
        self("upgrade", str(chart), "--reset-then-reuse-values", *options)

    def refused(self, verb: str, *options: str, chart: Path = CHART) -> str:
        """What Helm says where it refuses."""
        done = self(verb, str(chart), *options, check=False)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
        """An object of the cluster; empty where there is none."""
        words = [
            "get",
            kind,
            name,
            "--namespace",
            namespace or self.namespace,
            "--output",
            "json",
            "--ignore-not-found",
        ]
        text = self.cluster.kubectl(*words)
        found: dict[str, Any] = json.loads(text) if text else {}
        return found


def main() -> None:
    """Write every expected file."""
    for case in cases():
        (RENDERED / f"{case}{EXPECTED}").write_text(rendered(case, Helm.V4), encoding="utf-8")
        sys.stdout.write(f"wrote {case}{EXPECTED}\n")


if __name__ == "__main__":
    main()
