"""https of a server from end to end: the whole manager, an engine that speaks TLS, a client, and each renewal."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.certificates import AUTHORITY, Secret, pair
from tests.support.manager_process import managed
from tests.support.vllm_cpu import real_engine
from tests.support.waiting import until
from vllm_client import NotReachable, VLLMClient
from vllm_operator.manager.certificate import FOLDER, Copies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from tests.cluster.pki import Pair
    from tests.support.manager_process import Manager

HOST: Final = "localhost"


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    """A Secret with a certificate of this machine."""
    found = Secret(tmp_path / "secret")
    one = pair(HOST)
    found.hold(one.certificate, one.key)
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.certificate)
    return found


@pytest.fixture
def manager(tmp_path: Path, secret: Secret) -> Iterator[Manager]:
    """A manager whose engine speaks https, as the operator has it."""
    with managed(tmp_path / "pod", "--certificate", str(secret.folder)) as found:
        found.change("program.py", "RENEWAL_SECONDS = 10.0", "RENEWAL_SECONDS = 0.2")
        copies = found.state / FOLDER
        found.flags = ["--ssl-certfile", str(copies / "tls.crt"), "--ssl-keyfile", str(copies / "tls.key")]
        yield found.run()


def holds(file: Path, content: bytes) -> bool:
    """Whether a file has this content."""
    return file.read_bytes() == content


async def test_an_engine_with_https_is_admitted_and_answers_clients_who_believe_its_authority(
    manager: Manager, secret: Secret, tmp_path: Path
) -> None:
    assert manager.wait_admitted()["verdict"] == "serving"
    url = f"https://{HOST}:{manager.engine_port}"
    async with VLLMClient(url, "tiny", ca_file=str(tmp_path / "ca.pem")) as client:
        assert (await client.completion("a")).text
    async with VLLMClient(url, "tiny", max_retries=0) as client:
        with pytest.raises(NotReachable, match="certificate"):
            await client.completion("a")
    file = manager.state / FOLDER / "tls.crt"
    for _ in range(2):
        renewed = pair()
        secret.hold(renewed.certificate, renewed.key)
        until(partial(holds, file, renewed.certificate), what="the renewal")
    secret.hold(pair().certificate, pair().key)
    until(lambda: "spec.engine.tls cannot be used" in json.dumps(manager.status()), what="the trouble")
    assert manager.status()["ready"], "the server goes on with the certificate that it has"


WATCHED: Final = """
import asyncio, sys, types
sys.modules["vllm"] = types.ModuleType("vllm")
sys.modules["vllm.logger"] = types.ModuleType("vllm.logger")
class Quiet:
    def __getattr__(self, name): return lambda *words: None
sys.modules["vllm.logger"].init_logger = lambda name: Quiet()
namespace = {}
exec(compile(open(sys.argv[1]).read(), "ssl", "exec"), namespace)
class Context:
    def load_cert_chain(self, certificate, key): print("loaded", open(certificate).read(), flush=True)
async def main():
    namespace["SSLCertRefresher"](Context(), sys.argv[3], sys.argv[2])
    await asyncio.sleep(0.5)
    print("watching", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
"""vLLM's own SSLCertRefresher, out of its file and without the rest of vLLM, which takes seconds to load."""


class Refresher:
    """A process in which vLLM watches a certificate."""

    def __init__(self, folder: Path) -> None:
        python = real_engine().require().venv / "bin" / "python"
        (source,) = python.parent.parent.glob("lib/*/site-packages/vllm/entrypoints/launchers/utils/ssl.py")
        words = [str(python), "-c", WATCHED, str(source), str(folder / "tls.crt"), str(folder / "tls.key")]
        self.output = folder.parent / f"{folder.name}.out"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT)

    def __enter__(self) -> Self:
        until(lambda: "watching" in self.said(), what="vLLM's watch")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def has_loaded(self, one: Pair) -> bool:
        """Whether it has loaded this certificate."""
        return one.certificate.decode() in self.said()

    def said(self) -> str:
        """What it has printed."""
        return self.output.read_text(encoding="utf-8")


@pytest.mark.real_vllm
def test_vllm_sees_each_renewal_in_the_managers_copies_and_of_kubelets_files_the_first_alone(tmp_path: Path) -> None:
    secret = Secret(tmp_path / "secret")
    first = pair()
    secret.hold(first.certificate, first.key)
    copies = Copies(str(secret.folder), {"GATE_STATE": str(tmp_path)})
    copies.make()
    with Refresher(tmp_path / FOLDER) as handed, Refresher(secret.folder) as direct:
        renewed = first
        for number in range(3):
            renewed = pair()
            secret.hold(renewed.certificate, renewed.key)
            assert copies.renew()
            until(partial(handed.has_loaded, renewed), what=f"renewal {number} in vLLM")
            if number == 0:
                until(partial(direct.has_loaded, renewed), what="the first renewal of the Secret's own files")
        assert not direct.has_loaded(renewed), "vLLM has come to see them: the manager need not copy any more"
