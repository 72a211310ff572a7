"""A store that checks signatures as Amazon does (moto, by the code of Amazon's own client) lets the program read."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
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
    from pathlib import Path

WEIGHTS = bytes(range(256)) * 4096
FREE_CALLS = 6
"""Calls that nobody has to sign: those with which the store is filled."""

ALL = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
SECONDS = 60.0
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


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(FREE_CALLS)}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            found = Store(port)

            def answers() -> bool:
                assert process.poll() is None, "moto.server has ended: is it installed?"
                with socket.socket() as caller:
                    return caller.connect_ex(("127.0.0.1", port)) == 0

            until(answers, seconds=SECONDS, what="moto.server listens")
            found.fill()
            yield found
        finally:
            process.terminate()


def test_a_model_is_read_with_the_right_keys(store: Store, tmp_path: Path) -> None:
    store.download(tmp_path, store.key_id, store.secret).attempt()
    folder = tmp_path / "vllm-prefetch/0123456789"
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "a b/config+1.json").read_bytes() == b"{}"


def test_a_wrong_key_is_told_with_the_stores_word_for_it(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Fault) as raised:
        store.download(tmp_path, store.key_id, "wrong").attempt()
    assert raised.value.reason == faults.UNAUTHORIZED
    assert "SignatureDoesNotMatch" in raised.value.message
