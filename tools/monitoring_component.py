"""manifests/components/monitoring: alerts and dashboards as objects, out of what the chart makes them of."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_METADATA: Final = """\
metadata:
  name: {name}
  namespace: vllm-system
  labels:
    app.kubernetes.io/name: vllm-operator
    app.kubernetes.io/part-of: vllm-operator
"""


def prometheus_rule(alerts: str) -> str:
    """A PrometheusRule of the text of a rule file."""
    groups = alerts[alerts.index("groups:") :]
    head = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n" + _METADATA.format(name="vllm-operator")
    return f"{head}spec:\n{indent(groups, '  ')}"


def config_maps(dashboards: Mapping[str, str]) -> str:
    """A ConfigMap for the text of each dashboard, by the name of its file."""
    return "---\n".join(_config_map(file, text) for file, text in dashboards.items())


def _config_map(file: str, text: str) -> str:
    name = f"vllm-operator-dashboard-{file.removesuffix('.json')}"
    head = "apiVersion: v1\nkind: ConfigMap\n" + _METADATA.format(name=name) + "    grafana_dashboard: '1'\n"
    return f"{head}data:\n  vllm-operator-{file}: |\n{indent(text, '    ')}"
