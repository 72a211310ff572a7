"""Where a catalogue is read: a mounted ConfigMap as kubelet updates it, and an API server that may not answer."""

from __future__ import annotations

import json
import logging
import os
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from tests.cluster.pki import Authority
from tests.support.catalogs import catalog
from tests.support.resources import resource
from tests.support.servers import free_port
from vllm_client import CatalogEntry, ConfigurationError, FileSource, KubernetesSource, NotReachable, Unauthorized
from vllm_client import sources as sources_module
from vllm_client.catalog import COMPLEXITIES, DEFAULT_WEIGHT, VERSION, joined, parse_catalog
from vllm_client.sources import open_source
from vllm_operator.api.names import CATALOG_CONFIG_MAP, MOST_CATALOG_PARTS
from vllm_operator.api.spec.catalog import DEFAULT_WEIGHT as OPERATORS_WEIGHT
from vllm_operator.api.spec.catalog import Complexity
from vllm_operator.render import catalog as render

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = "Qwen/Qwen2.5-0.5B-Instruct"


def content(*names: str) -> dict[str, Any]:
    """A catalogue of models that say nothing but where they are."""
    models = [{"name": name, "served_names": [name], "base_url": f"http://{name}/v1"} for name in names]
    return {"version": 1, "namespace": "team", "models": models}


def named(found: Any) -> list[str]:
    """Names of the models in a catalogue."""
    return [model.name for model in found.models]


class Mount:
    """A mounted ConfigMap: kubelet writes a new folder and turns the link `..data` to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._count = folder, 0
        (folder / "catalog.json").symlink_to(Path("..data") / "catalog.json")

    def update(self, text: str) -> None:
        """What kubelet does about a minute after the ConfigMap has changed."""
        self._count += 1
        new = self.folder / f"..{self._count}"
        new.mkdir()
        (new / "catalog.json").write_text(text, encoding="utf-8")
        os.utime(new / "catalog.json", (1, 1))  # neither the time nor the size tells two of them apart
        link = self.folder / "..data_tmp"
        link.symlink_to(new.name)
        link.rename(self.folder / "..data")


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    """A mounted catalogue with one model."""
    made = Mount(tmp_path)
    made.update(json.dumps(content("a")))
    return made


# --- the format


def test_what_the_operator_writes_is_what_the_library_reads() -> None:
    said = {
        "languages": ["zh-TW"],
        "complexity": ["medium"],
        "tasks": ["chat"],
        "labels": {"tier": "gold"},
        "weight": 7,
    }
    raw = resource(catalog=said, engine={"maxModelLen": "32K"}, auth={"generate": True})
    raw["status"] = {"conditions": [{"type": "Available", "status": "True"}]}
    written = json.loads(catalog("team", [raw, resource("bare")])["data"]["catalog.json"])
    found = parse_catalog(written)
    assert (found.namespace, found.truncated) == ("team", 0)
    assert found.models == (
        CatalogEntry(
            name="bare",
            served_names=(SOURCE,),
            base_url="http://bare.team.svc:8000/v1",
            discovery="bare-engines.team.svc:8000",
        ),
        CatalogEntry(
            name="qwen",
            served_names=(SOURCE,),
            base_url="http://qwen.team.svc:8000/v1",
            discovery="qwen-engines.team.svc:8000",
            ready=True,
            context_length=32768,
            key_secret="qwen-binding",  # noqa: S106 # the name of a Secret
            languages=("zh-TW",),
            complexity=("medium",),
            tasks=("chat",),
            labels={"tier": "gold"},
            weight=7,
        ),
    )


def test_operator_and_library_mean_the_same_by_names_tiers_and_defaults() -> None:
    assert get_args(Complexity) == COMPLEXITIES
    assert (render.VERSION, render.FILE) == (VERSION, sources_module.FILE)
    assert (CATALOG_CONFIG_MAP, OPERATORS_WEIGHT) == (sources_module.CONFIG_MAP, DEFAULT_WEIGHT)
    assert sources_module.MOST_PARTS == MOST_CATALOG_PARTS


def test_fields_of_a_newer_operator_are_ignored() -> None:
    newer = content("a")
    newer["models"][0]["colour"] = "blue"
    newer["moon"] = "full"
    assert named(parse_catalog(newer)) == ["a"]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ([], "no mapping with a list of `models`"),
        ({**content(), "version": 2}, "its version is 2, and this library reads 1"),
        ({"models": []}, "its version is None"),
        ({**content(), "models": ["a"]}, r"models\[0\] cannot be read: it is no mapping"),
        ({**content(), "models": [{"name": "a", "served_names": []}]}, "it has no served_names and no base_url"),
        ({**content(), "models": [{**content("a")["models"][0], "tasks": "chat"}]}, "its tasks is 'chat'"),
        ({**content(), "models": [{**content("a")["models"][0], "ready": "yes"}]}, "its ready is 'yes'"),
    ],
)
def test_what_is_no_catalogue_is_refused_with_the_place(damage: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        parse_catalog(damage)


# --- files


def test_a_mounted_catalogue_is_read_anew_when_kubelet_has_turned_the_link(mount: Mount) -> None:
    source = FileSource(mount.folder)
    first = source.read()
    assert named(first) == ["a"]
    assert source.read() is first
    mount.update(json.dumps(content("b")))
    assert named(source.read()) == ["b"]


def test_a_path_to_the_file_itself_does_too(mount: Mount) -> None:
    source = FileSource(mount.folder / "catalog.json")
    assert named(source.read()) == ["a"]
    mount.update(json.dumps(content("b")))
    assert named(source.read()) == ["b"]


def test_a_file_that_becomes_unreadable_leaves_the_last_catalogue_in_use_and_is_told_once(
    mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    source = FileSource(mount.folder)
    source.read()
    mount.update('{"version": 1')
    assert [named(source.read()) for _ in range(3)] == [["a"]] * 3
    assert len(caplog.messages) == 1
    assert "the last catalogue stays in use: no catalogue at" in caplog.text
    (mount.folder / "..data").unlink()
    assert [named(source.read()) for _ in range(3)] == [["a"]] * 3
    assert len(caplog.messages) == 2
    mount.update(json.dumps(content("b")))
    assert named(source.read()) == ["b"]


@pytest.mark.parametrize("text", [None, "", "[]", '{"version": 2, "models": []}'])
def test_a_file_that_was_never_a_catalogue_is_an_error_each_time(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "catalog.json").write_text(text, encoding="utf-8")
    source = FileSource(tmp_path / "catalog.json")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=str(tmp_path)) as caught:
            source.read()
        assert caught.value.variable == "VLLM_CATALOG"


def test_a_catalogue_that_had_no_room_for_all_models_is_told(mount: Mount, caplog: pytest.LogCaptureFixture) -> None:
    mount.update(json.dumps({**content("a"), "truncated": 3}))
    FileSource(mount.folder).read()
    assert "the catalogue of team has no room for 3 models" in caplog.text


# --- more than one part


def part(*names: str, **head: int) -> dict[str, Any]:
    """One part of a catalogue."""
    models = [model for name in names for model in content(name)["models"]]
    return {**content("a"), "models": models, **head}


def test_parts_that_are_mounted_into_the_same_folder_are_read_too_and_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "catalog.json").write_text(json.dumps(part("b", truncated=3, parts=3)), encoding="utf-8")
    (tmp_path / "catalog-2.json").write_text(json.dumps(part("a", "d")), encoding="utf-8")
    source = FileSource(tmp_path)
    assert named(source.read()) == ["a", "b", "d"]
    assert source.read().truncated == 1
    assert "no room for 1 models, or not all of its 3 parts can be read" in caplog.text
    (tmp_path / "catalog-3.json").write_text(json.dumps(part("c")), encoding="utf-8")
    assert named(source.read()) == ["a", "b", "c", "d"]
    assert source.read().truncated == 0
    assert source.read() is source.read(), "nothing is read again that has not changed"


def test_a_model_that_moves_from_part_to_part_is_there_once() -> None:
    first, second = parse_catalog(part("a", "b", truncated=1, parts=2)), parse_catalog(part("b", "c"))
    assert named(joined(first, [second])) == ["a", "b", "c"]
    assert joined(first, [second]).truncated == 0


def test_what_is_no_count_of_parts_is_one() -> None:
    odds: list[Any] = [None, -3, "2", 0, [], True]
    for odd in odds:
        assert parse_catalog({**content("a"), "parts": odd}).parts == 1


# --- what is meant


def test_a_mapping_is_its_content() -> None:
    assert named(open_source(content("a")).read()) == ["a"]


def test_the_variable_names_the_file(mount: Mount) -> None:
    assert named(open_source(environ={"VLLM_CATALOG": str(mount.folder)}).read()) == ["a"]


def test_without_the_variable_the_usual_place_counts(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "DEFAULT_PATH", mount.folder / "catalog.json")
    assert named(open_source(environ={"KUBERNETES_SERVICE_HOST": "127.0.0.1"}).read()) == ["a"]


def test_outside_of_a_pod_and_without_a_file_the_error_says_where_was_looked() -> None:
    with pytest.raises(ConfigurationError, match=r"VLLM_CATALOG is not set, /etc/vllm/catalog/catalog.json does not"):
        open_source(environ={})


# --- the API server


class ApiServer:
    """An API server that answers what it is told, for one ConfigMap."""

    def __init__(self, folder: Path) -> None:
        authority = Authority()
        authority.server("api", addresses=["127.0.0.1"]).save(folder, "server")
        self.folder, self.status, self.body = folder, 200, ""
        self.requests: list[tuple[str, str]] = []
        self.others: dict[str, tuple[int, str]] = {}
        """Answers for the ConfigMaps with these names."""
        (folder / "ca.crt").write_bytes(authority.certificate)
        (folder / "token").write_text("first\n", encoding="utf-8")
        (folder / "namespace").write_text("team", encoding="utf-8")
        self.holds(content("a"))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "server.crt", folder / "server.key")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.now = 100.0

    def holds(self, written: object) -> None:
        """The ConfigMap is there, with this catalogue."""
        self.status, self.body = 200, json.dumps({"data": {"catalog.json": json.dumps(written)}})

    def source(self, **options: Any) -> KubernetesSource:
        """A source in a pod of this cluster."""
        environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.server.server_port)}
        given = {"environ": environ, "service_account": self.folder, "clock": lambda: self.now, **options}
        return KubernetesSource(**given)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.requests.append((self.path, self.headers["Authorization"]))
                status, body = api.others.get(self.path.rpartition("/")[2], (api.status, api.body))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the inherited signature
                """Say nothing."""

        return Handler


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server on loopback."""
    made = ApiServer(tmp_path)
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_a_pod_reads_the_config_map_of_its_namespace_with_its_token(api: ApiServer) -> None:
    source = api.source()
    assert named(source.read()) == ["a"]
    (api.folder / "token").write_text("second", encoding="utf-8")
    api.holds(content("b"))
    api.now += 9.9
    assert named(source.read()) == ["a"]
    api.now += 0.2
    assert named(source.read()) == ["b"]
    path = "/api/v1/namespaces/team/configmaps/vllm-catalog"
    assert api.requests == [(path, "Bearer first"), (path, "Bearer second")]
    assert named(api.source(namespace="other").read()) == ["b"]
    assert api.requests[-1][0] == path.replace("team", "other")


def test_all_parts_are_read_and_one_that_cannot_be_is_counted_as_missing(api: ApiServer) -> None:
    api.holds(part("b", truncated=2, parts=3))
    second = json.dumps({"data": {"catalog-2.json": json.dumps(part("a"))}})
    api.others = {"vllm-catalog-2": (200, second), "vllm-catalog-3": (403, "{}")}
    found = api.source().read()
    assert (named(found), found.truncated) == (["a", "b"], 1)
    assert [path.rpartition("/")[2] for path, _ in api.requests] == [
        "vllm-catalog",
        "vllm-catalog-2",
        "vllm-catalog-3",
    ]


def test_the_catalogue_of_an_operator_with_a_name_is_read_and_asked_for_under_that_name(api: ApiServer) -> None:
    api.holds(part("b", parts=2))
    second = json.dumps({"data": {"catalog-2.json": json.dumps(part("a"))}})
    api.others = {"vllm-catalog": (404, "{}"), "blue-vllm-catalog-2": (200, second)}
    assert named(api.source(config_map="blue-vllm-catalog").read()) == ["a", "b"]
    api.status, api.body = 403, "{}"
    with pytest.raises(Unauthorized) as caught:
        api.source(config_map="blue-vllm-catalog").read()
    assert "resourceNames [blue-vllm-catalog]" in caught.value.advice


def test_a_refusal_names_the_role_to_grant(api: ApiServer) -> None:
    api.status, api.body = 403, json.dumps({"message": 'configmaps "vllm-catalog" is forbidden'})
    with pytest.raises(Unauthorized, match=r'HTTP 403: configmaps "vllm-catalog" is forbidden') as caught:
        api.source().read()
    assert "a Role in namespace team" in caught.value.advice
    assert "resourceNames [vllm-catalog], verbs [get]" in caught.value.advice


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, '{"message": "not found"}', "namespace team has no ConfigMap vllm-catalog"),
        (200, "{}", "has no catalog.json"),
        (200, '{"data": {"catalog.json": "{"}}', "is no JSON"),
        (200, '{"data": {"catalog.json": "[]"}}', "ConfigMap team/vllm-catalog cannot be read"),
    ],
)
def test_a_config_map_that_is_no_catalogue_is_told(api: ApiServer, status: int, body: str, told: str) -> None:
    api.status, api.body = status, body
    with pytest.raises(ConfigurationError, match=told):
        api.source().read()


@pytest.mark.parametrize(("status", "body"), [(500, "<html>gateway</html>"), (429, '{"message": "slow down"}')])
def test_an_api_server_that_cannot_answer_now_is_not_reachable(api: ApiServer, status: int, body: str) -> None:
    api.status, api.body = status, body
    with pytest.raises(NotReachable, match=f"HTTP {status}: (<html>|slow)"):
        api.source().read()


def test_an_api_server_that_is_away_leaves_the_last_catalogue_in_use(
    api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="vllm_client")
    source = api.source()
    first = source.read()
    api.status, api.body = 503, "{}"
    for _ in range(3):
        api.now += 11
        assert source.read() is first
    assert len(api.requests) == 4
    assert len(caplog.messages) == 1
    api.holds(content("b"))
    assert source.read() is first
    api.now += 11
    assert named(source.read()) == ["b"]


def test_nobody_at_the_address_is_not_reachable(api: ApiServer) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(free_port())}
    with pytest.raises(NotReachable, match="cannot reach the API server"):
        api.source(environ=environ).read()


def test_another_clusters_certificate_is_not_trusted(api: ApiServer) -> None:
    (api.folder / "ca.crt").write_bytes(Authority().certificate)
    with pytest.raises(NotReachable, match="certificate"):
        api.source().read()
    assert api.requests == []


def test_a_pod_without_a_service_account_is_told_to_mount_the_file(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "::1"}
    with pytest.raises(ConfigurationError, match=r"no service account: .*Mount ConfigMap vllm-catalog at /etc/vllm"):
        KubernetesSource(environ=environ, service_account=tmp_path)
    with pytest.raises(ConfigurationError, match="KUBERNETES_SERVICE_HOST is not set"):
        KubernetesSource("team", environ={}, service_account=tmp_path)
