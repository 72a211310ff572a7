"""Fill a claim from the S3 of moto, which checks signatures by Amazon's own client: `python -m tests.support.s3_mock`.

It is no dependency of the tests: its botocore wants an older python-dateutil than the kubernetes package. uv brings it
into an environment of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import until
from vllm_operator.prefetch import faults
from vllm_operator.prefetch.faults import Fault
from vllm_operator.prefetch.program import Download, Settings
from vllm_operator.prefetch.progress import Progress
from vllm_operator.prefetch.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

WEIGHTS = bytes(range(256)) * 4096
FREE_CALLS = 6
"""Calls that nobody has to sign: those with which the store is filled."""

ALL = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
SECONDS = 60.0
START_SECONDS = 240.0
"""Its packages may have to be loaded."""
MOTO = "moto[s3,server]>=5,<6"
BYTES = "binary/octet-stream"


class Store:
    """A store with a model, and who may read it."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.key_id = self.secret = ""

    def fill(self) -> None:
        """Make an account, and upload the model."""
        self._account("CreateUser")
        told = self._account("CreateAccessKey")
        self.key_id, self.secret = (
            re.findall(f"<{name}>(.*?)</", told)[0] for name in ("AccessKeyId", "SecretAccessKey")
        )
        self._account("PutUserPolicy", PolicyName="all", PolicyDocument=ALL)
        self.call("/models", method="PUT")
        self.call("/models/qwen/model.safetensors", WEIGHTS, method="PUT")
        self.call("/models/qwen/a%20b/config%2B1.json", b"{}", method="PUT")

    def call(self, path: str, body: bytes = b"", *, method: str = "GET", service: str = "s3", kind: str = BYTES) -> str:
        """One request, signed by nobody."""
        credential = f"Credential=nobody/20200101/us-east-1/{service}/aws4_request"
        unsigned = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"
        headers = {"Content-Type": kind, "Authorization": unsigned}
        request = urllib.request.Request(self.address + path, body or None, headers, method=method)  # noqa: S310 # loopback
        with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310 # likewise
            text: str = response.read().decode()
        return text

    def _account(self, action: str, **more: str) -> str:
        told = urllib.parse.urlencode({"Action": action, "Version": "2010-05-08", "UserName": "reader", **more})
        return self.call("/", told.encode(), method="POST", service="iam", kind="application/x-www-form-urlencoded")

    def download(self, cache: Path, key_id: str, secret: str) -> Download:
        """A download by somebody."""
        environment = {"AWS_ENDPOINT_URL": self.address, "AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret}
        settings = Settings("0123456789", "s3", "s3://models/qwen", "", str(cache), 0)
        return Download(settings, environment, Progress(), transport=Transport(SECONDS))


@contextlib.contextmanager
def running_store() -> Iterator[Store]:
    """The store on loopback, with a model, for the length of a block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(FREE_CALLS)}
    server = ["python", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    command = [sys.executable, "-m", "uv", "run", "--no-project", "--isolated", "--with", MOTO, *server]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:

            def answers() -> bool:
                assert process.poll() is None, "moto.server has ended: can uv install it?"
                with socket.socket() as caller:
                    return caller.connect_ex(("127.0.0.1", port)) == 0

            until(answers, seconds=START_SECONDS, what="moto.server listens")
            store = Store(port)
            store.fill()
            yield store
        finally:
            process.terminate()


def main() -> None:
    """Read the model with the right keys and with a wrong one, and say what came of both.

    Raises:
        AssertionError: it is another than it has to be.
    """
    with running_store() as store, tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        with pytest.raises(Fault, match="SignatureDoesNotMatch") as raised:
            store.download(cache / "wrong", store.key_id, "wrong").attempt()
        print(f"a wrong key: {raised.value.reason}: {raised.value.message}")
        assert raised.value.reason == faults.UNAUTHORIZED
        store.download(cache / "right", store.key_id, store.secret).attempt()
        found = cache / "right/vllm-prefetch/0123456789"
        assert (found / "model.safetensors").read_bytes() == WEIGHTS
        assert (found / "a b/config+1.json").read_bytes() == b"{}"
        print("the right keys: every file is there, with its content")


if __name__ == "__main__":
    main()
