"""dist/install.yaml: what manifests/base makes, in one file. `make install-yaml IMAGE=...` prints it for an image."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import yaml

from vllm_operator.api.crd import crd_yaml

_REPOSITORY: Final = Path(__file__).parent.parent
_BASE: Final = _REPOSITORY / "manifests" / "base"
_IMAGE: Final = "          image: vllm-operator\n"
"""How the manifests name the image."""

_HEAD: Final = """\
# Generated from manifests/base by `make generate`; do not edit.
# For an image of yours: make install-yaml IMAGE=registry.example.com/vllm-operator:0.1.0
# kubectl apply --server-side -f dist/install.yaml
"""


def install_text(image: str = "") -> str:
    """The file; with the image that the chart names by itself, if none is given.

    Raises:
        ValueError: the manifests name their image otherwise than this module knows.
    """
    operator = _text("operator.yaml")
    if operator.count(_IMAGE) != 1:
        raise ValueError(f"manifests/base/operator.yaml has to hold one line {_IMAGE.strip()!r}")
    chosen = image or f"vllm-operator:{chart()['appVersion']}"
    parts = [
        _text("namespace.yaml"),
        crd_yaml(),
        _text("roles.yaml"),
        operator.replace(_IMAGE, f"          image: {chosen}\n"),
    ]
    return _HEAD + "---\n".join(parts)


def chart() -> dict[str, str]:
    """What Chart.yaml says."""
    text = (_REPOSITORY / "charts" / "vllm-operator" / "Chart.yaml").read_text(encoding="utf-8")
    found: dict[str, str] = yaml.safe_load(text)
    return found


def _text(name: str) -> str:
    return (_BASE / name).read_text(encoding="utf-8")


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(prog="python -m tools.install_file", description=__doc__)
    parser.add_argument("image", nargs="?", default="", help="image of the operator, with its tag or digest")
    sys.stdout.write(install_text(parser.parse_args().image))


if __name__ == "__main__":
    main()
