"""Write what derives from something else in the repository: `make generate`. A test fails where a file has drifted."""

from __future__ import annotations

import sys
from pathlib import Path

from tools import dashboards
from tools.api_reference import api_page
from tools.broken_samples import with_broken_samples
from tools.chart.schema import schema_text
from tools.chart.text import values_text, with_table
from tools.examples import pages_with_programs
from tools.flag_reference import flags_page
from tools.install_file import install_text
from tools.metrics_reference import metrics_page
from tools.monitoring_component import config_maps, prometheus_rule
from tools.signature_reference import pod_table, with_outside_causes, with_signatures
from vllm_operator.api.crd import FILE_NAME, crd_yaml
from vllm_operator.manager.matching import FILE as TABLE_FILE

REPOSITORY = Path(__file__).parent.parent
CHART = Path("charts/vllm-operator")
CHART_TEMPLATES = CHART / "templates"
INSTALL_FILE = Path("dist/install.yaml")
INSTALL_PAGE = Path("docs/install.md")
CHART_PAGE = Path("charts/vllm-operator/README.md")
ROLES = Path("manifests/base/roles.yaml")
NAMESPACED_ROLE = Path("manifests/overlays/namespaced/vllm-models/role.yaml")
MONITORING = Path("manifests/components/monitoring")
ALERTS = CHART / "files" / "alerts.yaml"
REFERENCE = Path("docs/reference")
POD_TABLE = Path("operator/vllm_operator/manager") / TABLE_FILE
TROUBLESHOOTING = Path("docs/troubleshooting.md")

_ROLE = "kind: ClusterRole\nmetadata:\n  name: vllm-operator\n"
"""How the operator's own role begins, the first one in the file."""

_DOCUMENT = "---\n"

_CLUSTER_ONLY = "  # what belongs to no namespace"
"""How the rules begin that a Role cannot give."""

_CHART_ROLES = """\
{{{{- /* What the operator may do, in the whole cluster or in each namespace of a list. */}}}}
{{{{- define "vllm-operator.rules" -}}}}
{rules}{{{{- end }}}}
{{{{- define "vllm-operator.clusterRules" -}}}}
{cluster_rules}{{{{- end }}}}
{{{{- if .Values.rbac.create }}}}
{{{{- range .Values.namespaces }}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{{{ include "vllm-operator.fullname" $ }}}}
  namespace: {{{{ . }}}}
  labels:
    {{{{- include "vllm-operator.labels" $ | nindent 4 }}}}
{{{{ include "vllm-operator.rules" $ }}}}
{{{{- else }}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{{{ include "vllm-operator.fullname" . }}}}
  labels:
    {{{{- include "vllm-operator.labels" . | nindent 4 }}}}
{{{{ include "vllm-operator.rules" . }}}}
{{{{ include "vllm-operator.clusterRules" . }}}}
{{{{- end }}}}
{{{{- end }}}}
{{{{- if .Values.userRoles }}}}
---
{users}{{{{- end }}}}
"""

_KEPT = """\
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""


def generated() -> dict[Path, str]:
    """Every generated file, by its path in the repository."""
    roles, shown = _text(ROLES), dashboards.generated()
    by_file = {path.name: text for path, text in shown.items()}
    return {
        Path("crds") / FILE_NAME: crd_yaml(),
        CHART / "values.yaml": values_text(),
        CHART / "values.schema.json": schema_text(),
        INSTALL_FILE: install_text(),
        INSTALL_PAGE: with_table(_text(INSTALL_PAGE)),
        CHART_PAGE: with_table(_text(CHART_PAGE)),
        CHART_TEMPLATES / "crd.yaml": _chart_crd(crd_yaml()),
        CHART_TEMPLATES / "roles.yaml": _generated_from(ROLES) + _chart_roles(roles),
        NAMESPACED_ROLE: _generated_from(ROLES) + _namespaced_role(roles),
        REFERENCE / "api.md": api_page(),
        REFERENCE / "flags.md": flags_page(),
        REFERENCE / "metrics.md": metrics_page(),
        **shown,
        MONITORING / "prometheusrule.yaml": _generated_from(ALERTS) + prometheus_rule(_text(ALERTS)),
        MONITORING / "dashboards.yaml": _generated_from(Path("tools/dashboards.py")) + config_maps(by_file),
        POD_TABLE: pod_table(),
        TROUBLESHOOTING: with_broken_samples(with_outside_causes(with_signatures(_text(TROUBLESHOOTING)))),
        **pages_with_programs(REPOSITORY),
    }


def _text(path: Path) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


def _generated_from(source: Path) -> str:
    return f"# Generated from {source} by `make generate`; do not edit.\n"


def _chart_roles(text: str) -> str:
    """The roles as a template: the operator's is one of each namespace, where it has a list of them."""
    own, _, users = text.partition(_DOCUMENT)
    rules, begin, cluster_rules = own[own.index("rules:") :].partition(_CLUSTER_ONLY)
    return _CHART_ROLES.format(rules=rules, cluster_rules=begin + cluster_rules, users=users)


def _namespaced_role(text: str) -> str:
    """The operator's role for one namespace."""
    own, _, _ = text.partition(_CLUSTER_ONLY)
    return own[own.index("apiVersion:") :].replace(_ROLE, _ROLE.replace("ClusterRole", "Role"))


def _chart_crd(text: str) -> str:
    """The definition as a template: what lies in a chart's crds/ is never upgraded."""
    head, metadata, rest = text.partition("metadata:\n")
    return f"{{{{- if .Values.crds.enabled }}}}\n{head}{metadata}{_KEPT}{rest}{{{{- end }}}}\n"


def main() -> None:
    """Write them all."""
    for path, text in generated().items():
        (REPOSITORY / path).parent.mkdir(exist_ok=True)
        (REPOSITORY / path).write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
