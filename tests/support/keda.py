"""KEDA's CustomResourceDefinition of ScaledObject, out of its Go module."""

from __future__ import annotations

import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

MODULE: Final = "github.com/kedacore/keda/v2@v2.21.0"
DEFINITION: Final = "scaledobjects.keda.sh"
_FILE: Final = "config/crd/bases/keda.sh_scaledobjects.yaml"


@cache
def definition() -> Path:
    """The file; Go keeps the module, and holds it against the checksum database when it comes.

    Raises:
        CalledProcessError: there is no such module, or no way to it.
    """
    with tempfile.TemporaryDirectory() as folder:  # outside of any module of ours, whose requirements do not matter
        command = ["go", "mod", "download", "-json", MODULE]
        told = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    return Path(json.loads(told)["Dir"]) / _FILE
