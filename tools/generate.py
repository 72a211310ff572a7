"""Write what derives from something else in the repository: `make generate`. A test fails where a file has drifted."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.api_reference import api_page
from tools.flag_reference import flags_page
from vllm_operator.api.crd import FILE_NAME, crd_yaml

REPOSITORY = Path(__file__).parent.parent
CHART_TEMPLATES = Path("charts/vllm-operator/templates")
ROLES = Path("manifests/base/roles.yaml")
REFERENCE = Path("docs/reference")

_KEPT = """\
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""


def generated() -> dict[Path, str]:
    """Every generated file, by its path in the repository."""
    roles = (REPOSITORY / ROLES).read_text(encoding="utf-8")
    return {
        Path("crds") / FILE_NAME: crd_yaml(),
        CHART_TEMPLATES / "crd.yaml": _chart_crd(crd_yaml()),
        CHART_TEMPLATES / "roles.yaml": f"# Generated from {ROLES} by `make generate`; do not edit.\n{roles}",
        REFERENCE / "api.md": api_page(),
        REFERENCE / "flags.md": flags_page(),
    }


def _chart_crd(text: str) -> str:
    """The definition as a template: what lies in a chart's crds/ is never upgraded."""
    head, metadata, rest = text.partition("metadata:\n")
    return f"{{{{- if .Values.crds.enabled }}}}\n{head}{metadata}{_KEPT}{rest}{{{{- end }}}}\n"


def main() -> None:
    """Write them all."""
    for path, text in generated().items():
        (REPOSITORY / path).write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
