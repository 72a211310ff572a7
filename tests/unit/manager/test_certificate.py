"""The certificate of the server: checked before the engine loads, and renewed in the very files that it watches."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import AUTHORITY, Secret, pair
from vllm_operator.manager.certificate import FOLDER, CertificateError, Copies

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.stem_process import Stem


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    """One with a certificate."""
    found = Secret(tmp_path / "secret")
    one = pair()
    found.hold(one.certificate, one.key)
    return found


def copies_of(secret: Secret, tmp_path: Path) -> Copies:
    """The copies of a Secret, which one process makes and another renews."""
    return Copies(str(secret.folder), {"GATE_STATE": str(tmp_path / "state")})


def held(tmp_path: Path) -> tuple[bytes, bytes]:
    """What the copies hold."""
    folder = tmp_path / "state" / FOLDER
    return (folder / "tls.crt").read_bytes(), (folder / "tls.key").read_bytes()


def numbers(tmp_path: Path) -> list[int]:
    """Which files the copies are."""
    return [(tmp_path / "state" / FOLDER / name).stat().st_ino for name in ("tls.crt", "tls.key")]


def test_the_copies_are_for_the_engines_user_alone(secret: Secret, tmp_path: Path) -> None:
    copies_of(secret, tmp_path).make()
    folder = tmp_path / "state" / FOLDER
    assert held(tmp_path)[0] == (secret.folder / "tls.crt").read_bytes()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "tls.key")] == [0o700, 0o600]


def test_each_renewal_is_written_into_the_same_files(secret: Secret, tmp_path: Path) -> None:
    copies_of(secret, tmp_path).make()
    files = numbers(tmp_path)
    judge = copies_of(secret, tmp_path)
    assert not judge.renew()
    for _ in range(3):
        renewed = pair()
        secret.hold(renewed.certificate, renewed.key)
        assert judge.renew()
        assert held(tmp_path) == (renewed.certificate, renewed.key)
        assert not judge.renew()
    assert numbers(tmp_path) == files


def test_a_shorter_certificate_leaves_nothing_of_the_longer_one(secret: Secret, tmp_path: Path) -> None:
    long, short = pair(), pair()
    secret.hold(long.certificate + AUTHORITY.certificate, long.key)
    copies_of(secret, tmp_path).make()
    secret.hold(short.certificate, short.key)
    copies_of(secret, tmp_path).renew()
    assert held(tmp_path) == (short.certificate, short.key)


def test_a_renewal_that_no_server_could_use_is_told_and_the_one_before_stays(secret: Secret, tmp_path: Path) -> None:
    copies = copies_of(secret, tmp_path)
    copies.make()
    before = held(tmp_path)
    secret.hold(pair().certificate, pair().key)
    with pytest.raises(CertificateError, match=r"spec.engine.tls cannot be used: .*(?i:key.values.mismatch)"):
        copies.renew()
    assert held(tmp_path) == before


@pytest.mark.parametrize(
    ("certificate", "key"),
    [(b"", b""), (b"no certificate", b"no key"), (pair().certificate, b"no key"), (pair().certificate, pair().key)],
    ids=["empty", "no PEM", "no key", "a key of another certificate"],
)
def test_an_engine_is_not_started_with_what_no_server_can_use(
    secret: Secret, tmp_path: Path, certificate: bytes, key: bytes
) -> None:
    secret.hold(certificate, key)
    with pytest.raises(CertificateError, match=r"the Secret has to hold tls.crt and the tls.key that belongs to it"):
        copies_of(secret, tmp_path).make()


def test_a_key_with_a_password_is_refused_and_asks_nobody(secret: Secret, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 # here alone

    one = pair()
    private = serialization.load_pem_private_key(one.key, None)
    locked = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"secret"),
    )
    secret.hold(one.certificate, locked)
    with pytest.raises(CertificateError, match="without a password"):
        copies_of(secret, tmp_path).make()


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"nowhere/tls.crt: No such file or directory"):
        Copies("/nowhere", {"GATE_STATE": str(tmp_path)}).make()


def test_the_stem_ends_before_the_engine_loads_and_says_why(stem: Stem, tmp_path: Path) -> None:
    stem.options += ["--certificate", str(tmp_path / "none")]
    code, out, _ = stem.start("print('the engine runs')").result()
    assert (code, out) == (66, b"")
    assert f"the certificate of spec.engine.tls cannot be used: {tmp_path}/none/tls.crt: No such file" in stem.message


def test_the_stem_hands_the_engine_its_copies(stem: Stem, secret: Secret, tmp_path: Path) -> None:
    stem.options += ["--certificate", str(secret.folder)]
    stem.environment["GATE_STATE"] = str(tmp_path / "state")
    files = [str(tmp_path / "state" / FOLDER / name) for name in ("tls.crt", "tls.key")]
    engine = f"import ssl; ssl.SSLContext().load_cert_chain(*{files}); raise SystemExit(7)"
    assert stem.start(engine).result()[0] == 7
