"""How much of its model an engine has downloaded: the size of its files in the cache of Hugging Face's libraries.

A log tells of whole files, and of nothing where progress bars are switched off; the disk always tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.spec.sources import Origin, parse_source
from vllm_operator.cli.kubectl import KubectlError
from vllm_operator.cli.outside import comment
from vllm_operator.cli.pods import run_in
from vllm_operator.cli.status.progress import Downloaded
from vllm_operator.manager.signatures import DOWNLOADING, STARTING
from vllm_operator.render.manager import INTERPRETER
from vllm_operator.render.untyped import part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cli.kubectl import Kubectl
    from vllm_operator.diagnosis.engine_status import EngineStatus

_PROGRAM: Final = """
import glob, os, sys, time
home = os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface")
hub = sys.argv[2] or os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
total = 0
for path in glob.glob(os.path.join(glob.escape(os.path.join(hub, sys.argv[1])), "blobs", "*")):
    try:
        total += os.stat(path).st_blocks * 512
    except FileNotFoundError:
        continue  # it was renamed: its download is complete
print(total, time.monotonic())
"""
"""Counts blocks and not lengths: a file that is fetched in pieces has its whole length from the beginning."""


def may_download(status: EngineStatus) -> bool:
    """Whether an engine may be downloading its model: libraries that show no progress leave it in the first phase."""
    return status.phase in (STARTING, DOWNLOADING)


def downloaded(kubectl: Kubectl, pod: Mapping[str, Any], model: Mapping[str, Any]) -> Downloaded | None:
    """How much of the model is on the disk of an engine's pod; None where it comes from elsewhere than the hub.

    Raises:
        KubectlError: the pod cannot be asked.
    """
    folder = hub_folder(model)
    if not folder:
        return None
    where = str(part(model, "spec", "model").get("downloadDir") or "")
    text = run_in(kubectl, pod, *INTERPRETER, "-c", _PROGRAM, folder, where)
    try:
        size, at = text.split()
        return Downloaded(int(size), float(at))
    except ValueError:
        raise KubectlError(f"what the pod prints is no size: {comment(text)}") from None


def hub_folder(model: Mapping[str, Any]) -> str:
    """The model's folder in the cache of huggingface_hub; empty where it is no model of the hub."""
    source = parse_source(str(part(model, "spec", "model").get("source") or ""))
    if source.origin is not Origin.HUB or not source.text:
        return ""
    return "--".join(("models", *source.text.split("/")))
