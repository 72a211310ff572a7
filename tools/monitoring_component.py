"""manifests/components/monitoring: alerts and dashboards as objects, from the files that the chart makes them of."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent
from typing import Final

from tools import dashboards

_REPOSITORY: Final = Path(__file__).parent.parent
_FOLDER: Final = Path("manifests/components/monitoring")
_ALERTS: Final = Path("charts/vllm-operator/files/alerts.yaml")

_HEAD: Final = "# Generated from {source} by `make generate`; do not edit.\n"

_METADATA: Final = """\
metadata:
  name: {name}
  namespace: vllm-system
  labels:
    app.kubernetes.io/name: vllm-operator
    app.kubernetes.io/part-of: vllm-operator
"""


def generated() -> dict[Path, str]:
    """The files."""
    each = "---\n".join(_config_map(path.name, text) for path, text in dashboards.generated().items())
    return {
        _FOLDER / "prometheusrule.yaml": _HEAD.format(source=_ALERTS) + _rule(),
        _FOLDER / "dashboards.yaml": _HEAD.format(source="tools/dashboards.py") + each,
    }


def _rule() -> str:
    alerts = (_REPOSITORY / _ALERTS).read_text(encoding="utf-8")
    groups = alerts[alerts.index("groups:") :]
    head = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n" + _METADATA.format(name="vllm-operator")
    return f"{head}spec:\n{indent(groups, '  ')}"


def _config_map(file: str, text: str) -> str:
    name = f"vllm-operator-dashboard-{file.removesuffix('.json')}"
    head = "apiVersion: v1\nkind: ConfigMap\n" + _METADATA.format(name=name) + "    grafana_dashboard: '1'\n"
    return f"{head}data:\n  vllm-operator-{file}: |\n{indent(text, '    ')}"
