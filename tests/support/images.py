"""The images that run in the test cluster, written without a container engine; layers and archives are cached.

Each function returns the path of an OCI archive, whose name inside is the constant beside it.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tomllib
from typing import TYPE_CHECKING

from tests.cluster.files import atomic_folder, locked
from tests.cluster.images import Entry, ImageConfig, base_layer, build_image, files_layer, folder_layer
from tests.cluster.paths import REPOSITORY, cache_folder
from tests.support.servers import ENGINE
from tests.support.vllm_cpu import ODD_ENGINE, find_uv, real_engine
from vllm_operator.render import amx

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.cluster.images import Layer

STUB_ENGINE = "docker.io/library/vllm-stub:test"
REAL_ENGINE = "docker.io/library/vllm-cpu:test"
OPERATOR = "docker.io/library/vllm-operator:dev"
CLIENT = "docker.io/library/vllm-client:dev"

REAL_ENGINE_MOUNT = "/opt/vllm"
"""Where pods of the real engine mount it. Its own path will not do: the way there may be closed to a non-root user."""
ODD_ENGINE_FOLDER = "/tmp/odd-engine"  # noqa: S108 - in the engine's own container
"""Files in it make a real engine in a pod odd (tests/support/odd_engine)."""
PLUG_INS = "/opt/odd-engine"
PACKAGES = "/usr/local/lib/python3.11/dist-packages"
"""Where Debian's Python looks for packages that are not Debian's."""
PLATFORM = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_36")
USER = "1000:1000"
PYTHON_ENV = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def stub_engine_image() -> Path:
    """The stub as /usr/local/bin/vllm, started as the real image starts its own: `vllm serve`."""
    program = files_layer({"usr/local/bin/vllm": Entry(mode=0o755, content=ENGINE)})
    config = ImageConfig(entrypoint=["vllm", "serve"], env=PYTHON_ENV)
    return build_image(STUB_ENGINE, layers=[base_layer(), program], config=config)


def real_engine_image() -> Path:
    """The real engine's image without the engine: pods mount `real_engine_root()` read-only at REAL_ENGINE_MOUNT.

    What vLLM remembers of the model's class is copied to where it looks for it, because it also writes there.
    """
    script = (
        "#!/bin/sh\n"
        'cache="${VLLM_CACHE_ROOT:-$HOME/.cache/vllm}"\n'
        f'mkdir -p "$cache" && cp -r {REAL_ENGINE_MOUNT}/cache/. "$cache"\n'
        f'exec {REAL_ENGINE_MOUNT}/venv/bin/python {REAL_ENGINE_MOUNT}/venv/bin/vllm "$@"\n'
    )
    start = Entry(mode=0o755, content=script.encode())
    program = files_layer({"usr/local/bin/vllm": start, f"{amx.FOLDER}/{amx.FILE}": amx.source().encode()})
    plug_in = folder_layer(ODD_ENGINE, PLUG_INS, exclude=("__pycache__", "__init__.py"))
    env = {
        "HF_HUB_OFFLINE": "1",
        "ODD_ENGINE": ODD_ENGINE_FOLDER,
        # The first as for `profile: cpu`: most pods of it stand for an engine on GPUs.
        "PYTHONPATH": f"{amx.FOLDER}:{PLUG_INS}",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_TARGET_DEVICE": "cpu",
    }
    config = ImageConfig(entrypoint=["vllm", "serve"], env={**PYTHON_ENV, **env})
    return build_image(REAL_ENGINE, layers=[base_layer(), program, plug_in], config=config)


def real_engine_root() -> Path:
    """The one folder of this machine that pods of the real engine mount.

    Raises:
        RuntimeError: The real engine is not installed.
    """
    return real_engine().require().root


def real_engine_model() -> str:
    """The tiny model's path in such a pod."""
    engine = real_engine()
    return f"{REAL_ENGINE_MOUNT}/{engine.model.relative_to(engine.root)}"


def real_adapter() -> str:
    """The path of the tiny model's adapter in such a pod."""
    engine = real_engine()
    return f"{REAL_ENGINE_MOUNT}/{engine.adapter.relative_to(engine.root)}"


def real_language_model() -> str:
    """The language model's path in such a pod."""
    engine = real_engine()
    return f"{REAL_ENGINE_MOUNT}/{engine.language_model.relative_to(engine.root)}"


def operator_image() -> Path:
    """The operator of this checkout with its pinned packages."""
    layers = [base_layer(), packages_layer("operator.txt"), source_layer("vllm_operator")]
    entrypoint = ["python3", "-m", "vllm_operator.controller.app"]
    return build_image(OPERATOR, layers=layers, config=python_config(entrypoint))


def client_image() -> Path:
    """The client library of this checkout with the package's base dependencies."""
    layers = [base_layer(), packages_layer("dev.txt", only=base_dependencies()), source_layer("vllm_client")]
    return build_image(CLIENT, layers=layers, config=python_config(["python3", "-m", "vllm_client"]))


def python_config(entrypoint: Sequence[str]) -> ImageConfig:
    """How our own programs start: not as root."""
    return ImageConfig(entrypoint=entrypoint, env={**PYTHON_ENV, "HOME": "/home/app"}, user=USER)


def source_layer(package: str) -> Layer:
    """A package of this checkout."""
    return folder_layer(REPOSITORY / "operator" / package, f"{PACKAGES}/{package}")


def base_dependencies() -> list[str]:
    """The names of the packages that a plain install of this project needs."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in project["dependencies"]]


def packages_layer(pins: str, *, only: Sequence[str] = ()) -> Layer:
    """The wheels of a file in requirements/, or `only` those and what they need; installed once per content."""
    file = REPOSITORY / "requirements" / pins
    text = file.read_text(encoding="utf-8")
    wanted = [
        found[0]
        for name in only
        if (found := re.search(rf"^{re.escape(name)}==\S+", text, re.MULTILINE | re.IGNORECASE))
    ]
    if len(wanted) != len(only):
        raise RuntimeError(f"{file} pins only {wanted} of {list(only)}: run make lock")
    key = hashlib.sha256("\n".join([*PLATFORM, *wanted, text]).encode()).hexdigest()[:16]
    target = cache_folder() / "packages" / key
    with locked(target.with_suffix(".lock")):
        if not target.exists():
            with atomic_folder(target) as folder:
                install(file, wanted, folder)
    return folder_layer(target, PACKAGES, exclude=("__pycache__", "bin", ".lock"))


def install(pins: Path, wanted: Sequence[str], folder: Path) -> None:
    """Unpack the wheels into the folder; nothing is built, every hash is checked.

    Raises:
        RuntimeError: uv failed; the message is its own.
    """
    command = [find_uv(), "pip", "install", "--quiet", "--target", str(folder), "--require-hashes", *PLATFORM]
    command += ["--only-binary", ":all:"]
    command += ["--constraints", str(pins), "--requirements", "-"] if wanted else ["--requirements", str(pins)]
    done = subprocess.run(command, input="\n".join(wanted), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"installing packages for an image failed: {done.stderr}")
