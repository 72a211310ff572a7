"""Where a catalogue comes from: a mapping, a mounted file, or the API server of the cluster.

    open_source(None)                  VLLM_CATALOG (a path), or else DEFAULT_PATH, or else, in a pod, the API server
    open_source("/etc/vllm/catalog")   a mounted ConfigMap: its folder, or its catalog.json
    open_source({...})                 the content of catalog.json

All of them keep the last catalogue that could be read: an application goes on while what it reads is away.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from vllm_client.catalog import VARIABLE, Catalog, joined, parse_catalog
from vllm_client.errors import ConfigurationError, NotReachable, Unauthorized, VLLMError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

CONFIG_MAP = "vllm-catalog"
FILE = "catalog.json"
MOST_PARTS = 8
"""ConfigMaps over which the operator spreads a large catalogue: `vllm-catalog-2` has `catalog-2.json`, and so on."""
DEFAULT_PATH = Path("/etc/vllm/catalog") / FILE
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REFRESH_SECONDS = 10.0
TIMEOUT_SECONDS = 5.0
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404


@runtime_checkable
class CatalogSource(Protocol):
    """Whatever a catalogue can be read from."""

    def read(self) -> Catalog:
        """The catalogue as it is now. It may block for as long as a request takes.

        Raises:
            VLLMError: There is none, and there never was.
        """


class FixedSource:
    """A catalogue that does not change."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._catalog = parse_catalog(content)

    def read(self) -> Catalog:
        """The catalogue."""
        return self._catalog


class _Kept:
    """The last catalogue that could be read. It stands in for one that cannot, which is logged once."""

    def __init__(self) -> None:
        self.catalog: Catalog | None = None
        self._told = ""

    def keep(self, catalog: Catalog) -> Catalog:
        """Take in a new one."""
        if catalog.truncated and (self.catalog is None or not self.catalog.truncated):
            parts = f", or not all of its {catalog.parts} parts can be read" if catalog.parts > 1 else ""
            logger.warning(
                "the catalogue of %s has no room for %d models%s", catalog.namespace, catalog.truncated, parts
            )
        self.catalog, self._told = catalog, ""
        return catalog

    def instead_of(self, error: VLLMError) -> Catalog:
        """The last one. Where there is none, the error is raised."""
        if self.catalog is None:
            raise error
        if str(error) != self._told:
            logger.warning("the last catalogue stays in use: %s", error)
            self._told = str(error)
        return self.catalog


class FileSource:
    """A mounted ConfigMap, or any file. It is read again when it is another one than before.

    Kubelet updates a mounted ConfigMap by turning a symbolic link to a new folder, so that the file at its end counts:
    its identity, size and time. A ConfigMap that is mounted by `subPath` is never updated. Further parts of a large
    catalogue are read beside the first, as far as they are mounted.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = Path(path)
        self._path = given / FILE if given.is_dir() else given
        self._lock = threading.Lock()
        self._seen: list[tuple[int, ...]] = []
        self._kept = _Kept()

    def read(self) -> Catalog:
        """The catalogue.

        Raises:
            ConfigurationError: There is no such file, or it is no catalogue; and there never was.
        """
        with self._lock:
            try:
                known = self._kept.catalog
                seen = self._identities(known.parts if known else 1)
                if known is not None and seen == self._seen:
                    return known
                first = _read(self._path)
                others = [_read(path) for path in self._others(first.parts) if path.exists()]
                self._seen = self._identities(first.parts)
                return self._kept.keep(joined(first, others))
            except (OSError, ValueError) as error:
                return self._kept.instead_of(error if isinstance(error, VLLMError) else _no_file(self._path, error))

    def _others(self, parts: int) -> list[Path]:
        """Where the parts after the first are."""
        return [self._path.with_stem(f"{self._path.stem}-{part}") for part in _after_the_first(parts)]

    def _identities(self, parts: int) -> list[tuple[int, ...]]:
        found = [_identity(path) if path.exists() else () for path in self._others(parts)]
        return [_identity(self._path), *found]


class KubernetesSource:
    """The ConfigMap, read from the API server with the pod's service account.

    Args:
        namespace: Where the models are; the pod's own namespace unless given.
        config_map: Its name; an operator that has a name puts that before it, as in `blue-vllm-catalog`.
        refresh_seconds: How old a catalogue may be.
        service_account: Folder with the token, the certificate of the cluster and the namespace.
        environ: Has KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.
        clock: Seconds that only grow.

    Raises:
        ConfigurationError: This is no pod with a service account.
    """

    def __init__(
        self,
        namespace: str | None = None,
        *,
        config_map: str = CONFIG_MAP,
        refresh_seconds: float = REFRESH_SECONDS,
        service_account: str | os.PathLike[str] = SERVICE_ACCOUNT,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._folder = Path(service_account)
        self._refresh_seconds, self._clock = refresh_seconds, clock
        self._namespace = namespace or self._text("namespace")
        self._config_map = config_map
        self._url = f"{_api_server(environ)}/api/v1/namespaces/{self._namespace}/configmaps/"
        self._lock = threading.Lock()
        self._read_at = 0.0
        self._kept = _Kept()

    def read(self) -> Catalog:
        """The catalogue, at most `refresh_seconds` old while the API server answers.

        Raises:
            NotReachable: The API server does not answer.
            Unauthorized: The service account may not read the ConfigMap; the message names the Role to grant.
            ConfigurationError: There is no catalogue, or it cannot be read.
        """
        with self._lock:
            now = self._clock()
            if self._kept.catalog is not None and now - self._read_at < self._refresh_seconds:
                return self._kept.catalog
            self._read_at = now
            try:
                return self._kept.keep(self._fetch())
            except VLLMError as error:
                return self._kept.instead_of(error)

    def _fetch(self) -> Catalog:
        first = self._part(self._config_map, FILE)
        others = []
        for number in _after_the_first(first.parts):
            try:
                others.append(self._part(f"{self._config_map}-{number}", f"{Path(FILE).stem}-{number}.json"))
            except VLLMError as error:  # it may come or go at this moment; what it holds is counted as missing
                logger.info("a part of the catalogue is left out: %s", error)
        return joined(first, others)

    def _part(self, name: str, file: str) -> Catalog:
        url = self._url + name
        status, body = self._get(url)
        if status != _OK:
            raise _refusal(status, body, url, self._namespace, name)
        data = body.get("data") or {}
        if file not in data:
            raise _no_catalog(f"ConfigMap {name} of namespace {self._namespace} has no {file}")
        try:
            content = json.loads(data[file])
        except ValueError as error:
            raise _no_catalog(f"{file} of ConfigMap {name} is no JSON: {error}") from error
        return parse_catalog(content, place=f"ConfigMap {self._namespace}/{name}")

    def _get(self, url: str) -> tuple[int, dict[str, Any]]:
        """One request. The token is read each time: kubelet replaces it within the hour."""
        import ssl  # noqa: PLC0415 - both are imported where they are used: they would double the time of the import

        import httpx2  # noqa: PLC0415 - see above

        headers = {"Authorization": f"Bearer {self._text('token')}", "Accept": "application/json"}
        try:
            trusted = ssl.create_default_context(cafile=str(self._folder / "ca.crt"))
            with httpx2.Client(verify=trusted, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
                answer = client.get(url, headers=headers)
                return answer.status_code, _object(answer.text)
        except (httpx2.HTTPError, OSError) as error:
            advice = "Look at the API server, and at network policies between it and this pod"
            raise NotReachable(f"cannot reach the API server: {error}", endpoint=url, advice=advice) from error

    def _text(self, name: str) -> str:
        try:
            return (self._folder / name).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise _no_catalog(f"this pod has no service account: {error}") from error


def open_source(
    source: CatalogSource | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> CatalogSource:
    """The source that is meant; see the top of this module.

    Raises:
        ConfigurationError: None is given, and none is where one is looked for.
    """
    environ = os.environ if environ is None else environ
    if isinstance(source, Mapping):
        return FixedSource(source)
    if isinstance(source, CatalogSource):
        return source
    path = source if source is not None else environ.get(VARIABLE) or (DEFAULT_PATH if DEFAULT_PATH.exists() else None)
    if path is not None:
        return FileSource(path)
    if "KUBERNETES_SERVICE_HOST" in environ:
        return KubernetesSource(environ=environ)
    raise _no_catalog(f"{VARIABLE} is not set, {DEFAULT_PATH} does not exist, and this is no pod")


def _read(path: Path) -> Catalog:
    """One part of a catalogue."""
    return parse_catalog(json.loads(path.read_text(encoding="utf-8")), place=str(path))


def _after_the_first(parts: int) -> range:
    """Numbers of the parts after the first; of a file that says more than the operator writes, as many as it does."""
    return range(2, min(parts, MOST_PARTS) + 1)


def _identity(path: Path) -> tuple[int, ...]:
    found = path.stat()  # of what the links lead to
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _object(text: str) -> dict[str, Any]:
    """An answer of the API server; one of something in between may be no JSON, and its words count all the same."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"message": text.strip()[:300]}


def _api_server(environ: Mapping[str, str]) -> str:
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise _no_catalog("KUBERNETES_SERVICE_HOST is not set: this is no pod")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _refusal(status: int, body: Mapping[str, Any], url: str, namespace: str, name: str) -> VLLMError:
    words = str(body.get("message", "")).rstrip(".")
    if status == _NOT_FOUND:
        return _no_catalog(
            f"namespace {namespace} has no ConfigMap {name}: the operator writes it where there is a VLLMModel"
        )
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        advice = (
            f"Grant the pod's service account a Role in namespace {namespace}: apiGroups [''], resources [configmaps], "
            f"resourceNames [{name}], verbs [get]; or mount the ConfigMap at {DEFAULT_PATH.parent}"
        )
        return Unauthorized(f"HTTP {status}: {words}", endpoint=url, advice=advice)
    return NotReachable(f"HTTP {status}: {words}", endpoint=url, advice="Look at the API server")


def _no_file(path: Path, error: Exception) -> ConfigurationError:
    advice = f"Mount ConfigMap {CONFIG_MAP} there, or set {VARIABLE} to where it is mounted"
    return ConfigurationError(f"no catalogue at {path}: {error}", variable=VARIABLE, advice=advice)


def _no_catalog(problem: str) -> ConfigurationError:
    advice = f"Mount ConfigMap {CONFIG_MAP} at {DEFAULT_PATH.parent}, or set {VARIABLE} to where catalog.json is"
    return ConfigurationError(problem, variable=VARIABLE, advice=advice)
