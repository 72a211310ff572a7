"""The images that run in the test cluster, written without a container engine; layers and archives are cached.

Each function returns the path of an OCI archive, whose name inside is the constant beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shlex
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.files import atomic_folder, locked
from tests.cluster.images import Entry, ImageConfig, base_layer, build_image, files_layer, folder_layer
from tests.cluster.paths import REPOSITORY, cache_folder
from tests.support.dockerfile import read_stages
from tests.support.servers import ENGINE
from tests.support.vllm_cpu import AS_RELEASED, DEBIAN_PYTHON, FRUGAL, ODD_ENGINE, ONE_THREAD, find_uv, real_engine
from tools import operator_files
from vllm_operator.render import amx

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cluster.images import Layer
    from tests.support.dockerfile import Stage

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
DOCKERFILE = REPOSITORY / "operator" / "Dockerfile"
OPERATOR_PINS = REPOSITORY / "requirements" / "operator.txt"
DISTROLESS_USERS = (
    b"root:x:0:0:root:/root:/sbin/nologin\n"
    b"nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
    b"nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
)
USER = "1000:1000"
PYTHON_ENV = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def stub_engine_image() -> Path:
    """The stub as /usr/local/bin/vllm, started as the real image starts its own: `vllm serve`."""
    program = files_layer({"usr/local/bin/vllm": Entry(mode=0o755, content=ENGINE)})
    config = ImageConfig(entrypoint=["vllm", "serve"], env=PYTHON_ENV)
    return build_image(STUB_ENGINE, layers=[base_layer(), program], config=config)


def real_engine_image(*, as_released: bool) -> Path:
    """The real engine's image without the engine: pods mount `real_engine_root()` read-only at REAL_ENGINE_MOUNT.

    What vLLM remembers of the model's class is copied to where it looks for it, because it also writes there. Unless
    it runs `as_released`, it is frugal: tests/support/odd_engine says how.
    """
    script = (
        "#!/bin/sh -e\n"
        'cache="${VLLM_CACHE_ROOT:-$HOME/.cache/vllm}"\n'
        'mkdir -p "$cache"\n'
        f'cp -r {REAL_ENGINE_MOUNT}/cache/. "$cache"\n'
        f'exec {REAL_ENGINE_MOUNT}/venv/bin/python {REAL_ENGINE_MOUNT}/venv/bin/vllm "$@"\n'
    )
    start = Entry(mode=0o755, content=script.encode())
    program = files_layer({"usr/local/bin/vllm": start, f"{amx.FOLDER}/{amx.FILE}": amx.source().encode()})
    plug_in = folder_layer(ODD_ENGINE, PLUG_INS, exclude=("__pycache__", "__init__.py"))
    env = {
        "HF_HUB_OFFLINE": "1",
        "ODD_ENGINE": ODD_ENGINE_FOLDER,
        **(AS_RELEASED if as_released else FRUGAL),
        **ONE_THREAD,
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
    """The operator of this checkout with its pinned packages, by the last stage of operator/Dockerfile.

    The base is Debian's Python of this machine's version, where the Dockerfile has another one. As in that one, the
    user has no name.
    """
    stage = read_stages(DOCKERFILE)[-1]
    users = files_layer({"etc/passwd": DISTROLESS_USERS})
    layers = [base_layer(), users, *operator_layers(stage)]
    config = ImageConfig(entrypoint=stage.entrypoint, env=stage.env, user=stage.user)
    return build_image(OPERATOR, layers=layers, config=config)


def operator_layers(stage: Stage) -> list[Layer]:
    """A layer of each COPY: the files that the Dockerfile's first stage makes, made by the same program."""
    folders = {"/files/packages": operator_packages, "/files/source": operator_source}
    layers = []
    for copied in stage.copies:
        (source,) = copied.sources
        with folders[source]() as folder:
            layers.append(folder_layer(folder, copied.target, exclude=(), byte_code=False))
    return layers


@contextlib.contextmanager
def operator_packages(platform: Sequence[str] = PLATFORM) -> Iterator[Path]:
    """The folder of the operator's packages, for a Python and a platform by uv's options; made once per content.

    Its byte code is for Debian's Python, whatever the platform.
    """
    program = Path(operator_files.__file__).read_text(encoding="utf-8")
    key = _key(*platform, OPERATOR_PINS.read_text(encoding="utf-8"), program)
    target = cache_folder() / "packages" / key
    with locked(target.with_suffix(".lock")):
        if not target.exists():
            with atomic_folder(target) as folder:
                installer = shlex.join([find_uv(), "pip", "install", "--quiet", *platform])
                _operator_files("packages", OPERATOR_PINS, folder, "--installer", installer)
    yield target


@contextlib.contextmanager
def operator_source() -> Iterator[Path]:
    """A folder with the operator's own package; taken away again, since it is quickly made."""
    with tempfile.TemporaryDirectory(prefix="vllm-operator-source-") as folder:
        _operator_files("source", REPOSITORY / "operator" / "vllm_operator", Path(folder))
        yield Path(folder)


def _operator_files(what: str, origin: Path, target: Path, *options: str) -> None:
    """What a RUN of the Dockerfile does, with the Python that the base layer has, to the same patch version."""
    words = [str(DEBIAN_PYTHON), operator_files.__file__, what, str(origin), str(target), *options]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"making the files of the operator's image failed: {done.stderr.strip()}")


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
    key = _key(*PLATFORM, *wanted, text)
    target = cache_folder() / "packages" / key
    with locked(target.with_suffix(".lock")):
        if not target.exists():
            with atomic_folder(target) as folder:
                install(file, wanted, folder)
    return folder_layer(target, PACKAGES, exclude=("__pycache__", "bin", ".lock"))


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


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
