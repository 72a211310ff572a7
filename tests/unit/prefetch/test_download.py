"""A claim is filled whole or not marked so, whatever the hub, the store or the web server does."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.file_sources import FileSources, commit_of, file_sources
from vllm_operator.prefetch import faults, fetch, program, store
from vllm_operator.prefetch.bucket import Credentials, signed
from vllm_operator.prefetch.faults import Fault
from vllm_operator.prefetch.listing import OTHER_FORMATS, sums_of, wanted
from vllm_operator.prefetch.program import Download, Settings
from vllm_operator.prefetch.progress import Progress
from vllm_operator.prefetch.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

WEIGHTS = bytes(range(256)) * 4096
"""1 MiB."""
FILES = {
    "config.json": b'{"architectures": []}',
    "tokenizer/merges.txt": b"a b\n",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"the same in another format",
}
NEWER = {**FILES, "model.safetensors": WEIGHTS[::-1]}
BROUGHT = {"config.json", "tokenizer/merges.txt", "model.safetensors"}
SUMS = "".join(f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in FILES.items()).encode()
KEY = "0123456789"


@pytest.fixture
def sources() -> Iterator[FileSources]:
    folders = {"models": {f"qwen/{name}": text for name, text in FILES.items()}}
    folders["web"] = {**FILES, "SHA256SUMS": SUMS}
    with file_sources({"org/model": {"main": FILES, "v2": NEWER}}, folders) as found:
        yield found


def download(
    sources: FileSources,
    cache: Path,
    kind: str = "hub",
    *,
    key: str = KEY,
    revision: str = "main",
    token: str = "",
    **more: Any,
) -> Download:
    """A download whose pauses take no time; what it waited is in `waited`."""
    source = {"hub": "org/model", "s3": "s3://models/qwen", "web": f"{sources.address}/web"}[kind]
    settings = Settings(key, kind, source, revision if kind == "hub" else "", str(cache), 0, **more)
    environment = {"HF_ENDPOINT": sources.address, "HF_TOKEN": token, "AWS_ENDPOINT_URL": sources.address}
    return Download(settings, environment, Progress(), transport=Transport(5.0), sleep=waits.append)


waits: list[float] = []


@pytest.fixture(autouse=True)
def no_waits() -> None:
    waits.clear()


def document(done: Download) -> dict[str, Any]:
    return done._progress.document()  # noqa: SLF001 # what /status would say


def fault_of(tried: Download) -> Fault:
    with pytest.raises(Fault) as raised:
        tried.attempt()
    return raised.value


def hub_folder(cache: Path) -> Path:
    return cache / "huggingface/hub/models--org--model"


def marked(cache: Path, key: str = KEY) -> bool:
    return (cache / "vllm-prefetch" / f"{key}.json").exists()


def test_what_comes_from_the_hub_lies_as_its_own_library_keeps_it(sources: FileSources, tmp_path: Path) -> None:
    done = download(sources, tmp_path)
    done.run()
    commit = commit_of("org/model", "main")
    snapshot = hub_folder(tmp_path) / "snapshots" / commit
    assert {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()} == BROUGHT
    assert (hub_folder(tmp_path) / "refs/main").read_text() == commit
    weights = snapshot / "model.safetensors"
    assert weights.read_bytes() == WEIGHTS
    assert weights.is_symlink()
    assert weights.resolve() == (hub_folder(tmp_path) / "blobs" / hashlib.sha256(WEIGHTS).hexdigest()).resolve()
    assert not list(tmp_path.rglob("*.incomplete"))
    told = document(done)
    size = sum(len(FILES[name]) for name in BROUGHT)
    assert (told["state"], told["commit"], told["files_done"]) == ("Complete", commit, 3)
    assert (told["bytes_done"], told["bytes_total"]) == (size, size)


def test_what_is_whole_is_not_asked_for_again(sources: FileSources, tmp_path: Path) -> None:
    download(sources, tmp_path).run()
    sources.requests.clear()
    again = download(sources, tmp_path)
    again.run()
    assert (sources.requests, document(again)["state"]) == ([], "Complete")


def test_a_file_that_was_lost_or_cut_since_is_brought_again_and_the_others_are_not(
    sources: FileSources, tmp_path: Path
) -> None:
    download(sources, tmp_path).run()
    blob = hub_folder(tmp_path) / "blobs" / hashlib.sha256(WEIGHTS).hexdigest()
    blob.write_bytes(WEIGHTS[:1000])
    sources.requests.clear()
    download(sources, tmp_path).run()
    assert blob.read_bytes() == WEIGHTS
    assert [path for path, _, _ in sources.requests if "config.json" in path] == []


def test_a_connection_that_breaks_again_and_again_goes_on_where_it_was(sources: FileSources, tmp_path: Path) -> None:
    sources.faults.cut_after = 100_000
    download(sources, tmp_path).run()
    ranges = [asked for path, asked, _ in sources.requests if path.startswith("/storage/")]
    assert ranges[:3] == ["", "bytes=100000-", "bytes=200000-"]
    assert len(ranges) == 11
    assert marked(tmp_path)


def test_a_program_that_is_killed_half_way_goes_on_where_it_was(sources: FileSources, tmp_path: Path) -> None:
    sources.faults.cut_after, sources.faults.broken = 300_000, 0
    stopped = download(sources, tmp_path)
    stop = threading.Event()

    def die(_: float) -> None:
        stop.set()
        raise SystemExit

    stopped._sleep = die  # noqa: SLF001 # the first pause is the end of it
    with pytest.raises(SystemExit):
        stopped.attempt()
    assert stop.is_set()
    assert not marked(tmp_path)
    sources.faults.cut_after = 0
    sources.requests.clear()
    download(sources, tmp_path).run()
    assert [asked for path, asked, _ in sources.requests if path.startswith("/storage/")] == ["bytes=300000-"]
    assert marked(tmp_path)


def test_a_server_that_knows_no_ranges_sends_the_whole_once_more(sources: FileSources, tmp_path: Path) -> None:
    sources.faults.cut_after, sources.faults.cuts, sources.faults.no_ranges = 1000, 1, True
    done = download(sources, tmp_path)
    done.run()
    assert document(done)["bytes_done"] == sum(len(FILES[name]) for name in BROUGHT)


def test_a_content_that_is_another_than_its_hash_is_thrown_away(sources: FileSources, tmp_path: Path) -> None:
    sources.faults.wrong = 3
    tried = download(sources, tmp_path)
    fault = fault_of(tried)
    assert fault.reason == faults.CORRUPT
    assert not marked(tmp_path)
    tried.run()
    assert (hub_folder(tmp_path) / "blobs" / hashlib.sha256(WEIGHTS).hexdigest()).read_bytes() == WEIGHTS


def test_a_part_of_an_earlier_try_that_is_wrong_costs_one_more_try_and_no_wrong_file(
    sources: FileSources, tmp_path: Path
) -> None:
    part = hub_folder(tmp_path) / "blobs" / f"{hashlib.sha256(WEIGHTS).hexdigest()}.{KEY}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    download(sources, tmp_path).run()
    assert (part.parent / hashlib.sha256(WEIGHTS).hexdigest()).read_bytes() == WEIGHTS


@pytest.mark.parametrize("kind", ["hub", "s3"])
@pytest.mark.parametrize("lie", [-7, 7])
def test_a_size_that_is_not_the_one_that_was_listed_is_told(
    sources: FileSources, tmp_path: Path, kind: str, lie: int
) -> None:
    sources.faults.size_lie = lie
    fault = fault_of(download(sources, tmp_path, kind))
    assert fault.reason == faults.CORRUPT
    assert "listed with" in fault.message
    assert not marked(tmp_path)


def test_a_gated_model_is_told_as_such_and_comes_with_the_token_of_who_has_accepted(
    sources: FileSources, tmp_path: Path
) -> None:
    sources.faults.gated = ("org/model",)
    fault = fault_of(download(sources, tmp_path))
    assert (fault.reason, "tokenSecret" in fault.message) == (faults.GATED, True)
    download(sources, tmp_path, token="accepted").run()  # noqa: S106 # of a hub of this test
    assert marked(tmp_path)


def test_the_token_goes_to_the_hub_and_not_to_the_storage_behind_it(sources: FileSources, tmp_path: Path) -> None:
    download(sources, tmp_path, token="accepted").run()  # noqa: S106 # of a hub of this test
    sent = {path.startswith("/storage/"): authorization for path, _, authorization in sources.requests}
    assert sent == {False: "Bearer accepted", True: ""}


def test_a_storage_behind_the_hub_that_refuses_is_told_from_a_wrong_token(sources: FileSources, tmp_path: Path) -> None:
    sources.faults.forbids = True
    fault = fault_of(download(sources, tmp_path, token="accepted"))  # noqa: S106 # of a hub of this test
    assert (fault.reason, "http://localhost:" in fault.message) == (faults.UNREACHABLE, True)


@pytest.mark.parametrize("code", ["limited", "broken"])
def test_who_limits_the_rate_or_fails_for_a_while_is_asked_again_when_he_says(
    sources: FileSources, tmp_path: Path, code: str
) -> None:
    setattr(sources.faults, code, 2)
    sources.faults.retry_after = "17"
    tried = download(sources, tmp_path)
    fault = fault_of(tried)
    assert fault.reason == (faults.RATE_LIMITED if code == "limited" else faults.UNREACHABLE)
    tried.run()
    assert waits[0] == (17 if code == "limited" else 4)
    assert marked(tmp_path)


def test_a_revision_that_is_not_there_and_a_repository_that_is_not_are_told_apart(
    sources: FileSources, tmp_path: Path
) -> None:
    assert fault_of(download(sources, tmp_path, revision="v9")).reason == faults.WRONG_REVISION
    sources.repositories = {}
    fault = fault_of(download(sources, tmp_path))
    assert (fault.reason, "does not exist, or is private" in fault.message) == (faults.NOT_FOUND, True)


def test_nothing_is_begun_that_has_no_room(
    sources: FileSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = SimpleNamespace(f_bavail=10, f_frsize=1024)
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    fault = fault_of(download(sources, tmp_path))
    assert (fault.reason, "0.0 GB" in fault.message) == (faults.DISK_FULL, True)
    assert not [path for path, _, _ in sources.requests if "storage" in path]


def test_a_disk_that_gets_full_is_told_and_what_came_is_kept(
    sources: FileSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fetch.Fetch._copy  # noqa: SLF001 # where bytes are written

    def full(self: fetch.Fetch, *arguments: Any) -> tuple[int, bool]:
        if arguments[-1] > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(self, *arguments)

    monkeypatch.setattr(fetch.Fetch, "_copy", full)
    tried = download(sources, tmp_path)
    fault = fault_of(tried)
    assert (fault.reason, "larger" in fault.message) == (faults.DISK_FULL, True)
    monkeypatch.setattr(fetch.Fetch, "_copy", whole)
    tried.run()
    assert marked(tmp_path)


def test_a_new_revision_comes_beside_the_old_one_and_what_both_have_comes_once(
    sources: FileSources, tmp_path: Path
) -> None:
    download(sources, tmp_path).run()
    sources.requests.clear()
    download(sources, tmp_path, key="9876543210", revision="v2").run()
    assert [path for path, _, _ in sources.requests if "/resolve/" in path and "config.json" in path] == []
    for revision, content in (("main", WEIGHTS), ("v2", WEIGHTS[::-1])):
        snapshot = hub_folder(tmp_path) / "snapshots" / commit_of("org/model", revision)
        assert (snapshot / "model.safetensors").read_bytes() == content
        assert (hub_folder(tmp_path) / "refs" / revision).read_text() == commit_of("org/model", revision)


def test_two_downloads_of_one_source_at_once_do_no_harm_to_each_other(sources: FileSources, tmp_path: Path) -> None:
    sources.faults.cut_after = 50_000
    both = [download(sources, tmp_path, key=key) for key in (KEY, "9876543210")]
    threads = [threading.Thread(target=one.run) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [document(one)["state"] for one in both] == ["Complete", "Complete"]
    assert (hub_folder(tmp_path) / "blobs" / hashlib.sha256(WEIGHTS).hexdigest()).read_bytes() == WEIGHTS


@pytest.mark.parametrize("kind", ["s3", "web"])
def test_a_bucket_and_a_web_server_fill_a_folder(sources: FileSources, tmp_path: Path, kind: str) -> None:
    sources.page = 2
    sources.faults.cut_after = 400_000
    done = download(sources, tmp_path, kind)
    done.run()
    folder = tmp_path / "vllm-prefetch" / KEY
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == BROUGHT
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    told = document(done)
    assert told["bytes_done"] == told["bytes_total"] == sum(len(FILES[name]) for name in BROUGHT)


@pytest.mark.parametrize("kind", ["s3", "web"])
def test_a_bucket_and_a_web_server_that_lie_are_found_out(sources: FileSources, tmp_path: Path, kind: str) -> None:
    sources.faults.wrong = 1 if kind == "s3" else 2  # the first answer of the web server is its list
    assert fault_of(download(sources, tmp_path, kind)).reason in (faults.CORRUPT, faults.WRONG_ANSWER)
    assert not marked(tmp_path)


def test_a_bucket_that_lacks_what_its_sums_tell_is_not_whole(sources: FileSources, tmp_path: Path) -> None:
    bucket = dict(sources.folders["models"])
    del bucket["qwen/model.safetensors"]
    sources.folders = {"models": {**bucket, "qwen/SHA256SUMS": SUMS}}
    fault = fault_of(download(sources, tmp_path, "s3"))
    assert (fault.reason, "model.safetensors" in fault.message) == (faults.NOT_FOUND, True)


def test_requests_to_a_store_are_signed_as_amazon_says() -> None:
    """The example "GET Bucket (List Objects)" of the S3 API reference, "Authenticating Requests"."""
    who = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    at_midnight = 1369353600.0
    headers = signed("https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J", who, at_midnight)
    assert headers["x-amz-date"] == "20130524T000000Z"
    signature = headers["Authorization"].rpartition("Signature=")[2]
    assert signature == "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"


def test_a_web_server_without_sums_is_told_what_to_write(sources: FileSources, tmp_path: Path) -> None:
    sources.folders = {"web": FILES}
    assert "sha256sum * > SHA256SUMS" in fault_of(download(sources, tmp_path, "web")).message


def test_no_name_of_a_list_leads_out_of_the_claim(sources: FileSources, tmp_path: Path) -> None:
    evil = f"{hashlib.sha256(b'x').hexdigest()}  ../../evil\n".encode()
    sources.folders = {"web": {"SHA256SUMS": evil, "../../evil": b"x"}, "models": {"qwen/../../evil": b"x"}}
    for kind in ("web", "s3"):
        assert fault_of(download(sources, tmp_path / "claim", kind)).reason == faults.WRONG_ANSWER
    assert not list(tmp_path.rglob("evil"))


def test_patterns_choose_files_and_without_them_other_formats_stay_away() -> None:
    names = ["model.safetensors", "pytorch_model.bin", "original/consolidated.00.pth", "config.json", "1_Dense/m.bin"]
    assert wanted(names, (), ()) == ["model.safetensors", "config.json", "1_Dense/m.bin"]
    assert wanted(["pytorch_model.bin"], (), ()) == ["pytorch_model.bin"], "there is nothing else"
    assert wanted(names, ["*.json", "original/"], ()) == ["original/consolidated.00.pth", "config.json"]
    assert wanted(names, (), ["*.bin"]) == ["model.safetensors", "original/consolidated.00.pth", "config.json"]
    assert "*.gguf" in OTHER_FORMATS


def test_sums_are_read_as_sha256sum_writes_them() -> None:
    digest = "a" * 64
    assert sums_of(f"{digest}  a b.txt\n{digest} *c\n{digest}  ./d\n# no sum\n{digest}\n") == {
        "a b.txt": digest,
        "c": digest,
        "d": digest,
    }


def test_a_slow_download_tells_its_rate_and_what_is_left() -> None:
    now = [0.0]
    progress = Progress(clock=lambda: now[0])
    progress.begin("c" * 40, 1, 10_000_000)
    assert progress.document()["state"] == "Verifying"
    for _ in range(40):
        progress.received(100_000)
        now[0] += 1.0
    told = progress.document()
    assert (told["state"], told["bytes_done"]) == ("Downloading", 4_000_000)
    assert told["bytes_per_second"] == pytest.approx(100_000, rel=0.05)
    assert told["seconds_left"] == pytest.approx(60, abs=4)


def test_the_mark_is_of_files_with_their_sizes(sources: FileSources, tmp_path: Path) -> None:
    download(sources, tmp_path).run()
    told = json.loads(Path(store.marker_path(str(tmp_path), KEY)).read_text())
    assert told["files"]["model.safetensors"] == len(WEIGHTS)
    assert (
        program.Settings.of(
            json.dumps(
                {
                    "key": "k",
                    "kind": "hub",
                    "source": "s",
                    "revision": "",
                    "cache": "/c",
                    "port": 1,
                    "allow": None,
                    "of a newer operator": 1,
                }
            )
        ).allow
        == ()
    )
