"""A small typed client of the API server over one aiohttp session: the few calls that the operator makes."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import aiohttp
import orjson

from vllm_operator.api import json_text
from vllm_operator.api.live import LiveObject, live_object
from vllm_operator.api.meta import FIELD_MANAGER
from vllm_operator.api.names import MANAGED_BY, MANAGER
from vllm_operator.cluster.answers import is_users_error
from vllm_operator.cluster.backoff import retry_after_seconds
from vllm_operator.cluster.fence import UNGUARDED, Fence, FencedBody
from vllm_operator.cluster.kinds import EVENT, JOB, MODEL, POD, kind_of
from vllm_operator.cluster.rights import REVIEWS_PATH, MissingRight, MissingRights
from vllm_operator.cluster.scope import EVERYTHING, Scope
from vllm_operator.errors import (
    ApiConflict,
    ApiEnding,
    ApiError,
    ApiInvalid,
    ApiNotFound,
    ApiNotServed,
    ApiRefused,
    ApiSilent,
    ApiUnavailable,
    NotLeading,
)
from vllm_operator.planner.status_parts import replacing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping

    from vllm_operator.cluster.kinds import Kind

T = TypeVar("T")

_NEVER: Final = "1"
"""Resource version that no object has: a write that names it makes an object, and never changes one that is there."""

_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PAGE_SIZE: Final = 500
_MOST_EVENTS: Final = 100
_NOT_FOUND, _CONFLICT, _GONE, _INVALID, _TOO_MANY, _SERVER_ERROR = 404, 409, 410, 422, 429, 500
_ENDING: Final = "NamespaceTerminating"
_JSON: Final = "application/json"

MOST_REQUESTS: Final = 16
"""Requests on their way at once. More of them do not help, since the API server is what takes the time, and each has a
connection of its own, whose TLS handshake costs both sides some milliseconds of CPU."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which object a listing saw, and in which state."""

    namespace: str
    name: str
    uid: str
    resource_version: int


@dataclass(frozen=True, slots=True)
class Identities:
    """What a listing saw."""

    resource_version: int
    """Of the moment that the list shows; 0 where it does not say."""
    items: tuple[Identity, ...]


class Client:
    """Calls to the API server. Every error is an ApiError; nothing is tried again here.

    Every write passes the fence: it raises NotLeading, and sends nothing, where this process may not write.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        server: str,
        *,
        timeout_seconds: float,
        fence: Fence = UNGUARDED,
        scope: Scope = EVERYTHING,
        rights: MissingRights | None = None,
    ) -> None:
        self.scope = scope
        self.rights = rights or MissingRights(scope)
        """What the API server has refused to this client."""
        self._session = session
        self._server = server.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._fence = fence
        self._slots = asyncio.Semaphore(MOST_REQUESTS)

    async def get(self, kind: Kind, namespace: str, name: str) -> LiveObject:
        """Read one object."""
        return live_object(await self._call("GET", kind.path(namespace, name)))

    async def apply(self, desired: Mapping[str, Any], *, force: bool) -> LiveObject:
        """Server-side apply of a whole object; the answer is the live one.

        Raises:
            ApiConflict: without `force`, when an object of that name is there. Without that check it would be merged
                with: a foreign ConfigMap has no field in common with ours, and would get our data and our owner.
        """
        metadata = desired["metadata"]
        body = desired if force else {**desired, "metadata": {**metadata, "resourceVersion": _NEVER}}
        path = kind_of(desired["kind"]).path(metadata["namespace"], metadata["name"])
        parameters = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        return live_object(
            await self._call(
                "PATCH", path, body=body, content_type="application/apply-patch+yaml", parameters=parameters
            )
        )

    async def patch(self, live: LiveObject, changes: Mapping[str, Any]) -> LiveObject:
        """JSON merge patch of this very object as it was seen.

        Raises:
            ApiConflict: it is another one by now, or has changed meanwhile.
        """
        guard = {"uid": live.uid, "resourceVersion": str(live.resource_version)}
        body = {**changes, "metadata": {**changes.get("metadata", {}), **guard}}
        return await self._merge(kind_of(live.kind).path(live.namespace, live.name), body)

    async def annotate(self, live: LiveObject, annotations: Mapping[str, str | None]) -> LiveObject:
        """Set annotations of this very object, or take out those that are None, in whatever state it is by now.

        Raises:
            ApiConflict: a new object has its name.
        """
        path = kind_of(live.kind).path(live.namespace, live.name)
        body = {"metadata": {"uid": live.uid, "annotations": dict(annotations)}}
        return await self._of_this_very(live, self._merge(path, body))

    async def patch_status(self, model: LiveObject, status: Mapping[str, Any]) -> LiveObject:
        """Replace the status of this very model: what it holds beside `status` is taken out.

        Raises:
            ApiConflict: a new model has its name.
            ApiNotFound: there is none of that name.
            ApiInvalid: the definition of the resource does not allow parts of it; the error names them.
        """
        path = MODEL.path(model.namespace, model.name, "status")
        body = {"metadata": {"uid": model.uid}, "status": replacing(model.status, status)}
        return await self._of_this_very(model, self._merge(path, body))

    async def scale(self, model: LiveObject, replicas: int) -> None:
        """Set the replicas of this very model as it was seen, through its scale subresource.

        Server-side apply of a Scale is none: it fails where nobody has owned the field before (Kubernetes 1.37).

        Raises:
            ApiConflict: it is another one by now, or has changed meanwhile.
        """
        guard = {"uid": model.uid, "resourceVersion": str(model.resource_version)}
        body = {"metadata": guard, "spec": {"replicas": replicas}}
        path, parameters = MODEL.path(model.namespace, model.name, "scale"), {"fieldManager": FIELD_MANAGER}
        await self._call("PATCH", path, body=body, content_type="application/merge-patch+json", parameters=parameters)

    async def _merge(self, path: str, body: Mapping[str, Any]) -> LiveObject:
        content_type, parameters = "application/merge-patch+json", {"fieldManager": FIELD_MANAGER}
        return live_object(await self._call("PATCH", path, body=body, content_type=content_type, parameters=parameters))

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> LiveObject:
        """Create an object.

        Raises:
            ApiConflict: there is one of that name.
        """
        return live_object(
            await self._call("POST", kind.path(body["metadata"]["namespace"]), body=body, content_type=_JSON)
        )

    async def replace(self, kind: Kind, body: Mapping[str, Any]) -> LiveObject:
        """Replace an object whole, as it was when it had the resource version in the body.

        Raises:
            ApiConflict: it has changed meanwhile.
        """
        path = kind.path(body["metadata"]["namespace"], body["metadata"]["name"])
        return live_object(await self._call("PUT", path, body=body, content_type=_JSON))

    async def delete(self, live: LiveObject) -> None:
        """Delete this very object; that it is gone already is no error."""
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": live.uid}}
        if live.kind == JOB.kind:
            body["propagationPolicy"] = "Background"  # else its pods are left, as batch/v1 has always had it
        path = kind_of(live.kind).path(live.namespace, live.name)
        try:
            await self._of_this_very(live, self._call("DELETE", path, body=body, content_type=_JSON))
        except (ApiNotFound, ApiConflict):
            return

    async def _of_this_very(self, live: LiveObject, request: Awaitable[T]) -> T:
        """What is answered to a write that names the uid of an object, in whatever state that is.

        The API server answers with the same 409 where another object has the name by now, and where others write the
        object so fast that it has given up (apiserver, endpoints/handlers/patch.go, MaxRetryWhenPatchConflicts): taken
        for each other, a model that is there would be forgotten, or one that is gone be asked for again and again.

        Raises:
            ApiConflict: another object has its name.
            ApiNotFound: there is none of that name.
            ApiUnavailable: it is still there, and another try may succeed.
        """
        try:
            return await request
        except ApiConflict as conflict:
            kind = kind_of(live.kind)
            found = await self.get(kind, live.namespace, live.name)
            if found.uid != live.uid:
                raise
            raise ApiUnavailable(kind.path(live.namespace, live.name), conflict.message) from conflict

    async def pods(self, namespace: str) -> list[dict[str, Any]]:
        """All pods of a namespace, whosever they are: what they mount is in no watch of the operator's."""
        found: list[dict[str, Any]] = []
        parameters = {"limit": str(_PAGE_SIZE)}
        while True:
            page = await self._call("GET", POD.path(namespace), parameters=parameters)
            found += page["items"] or ()
            token = page["metadata"].get("continue")
            if not token:
                return found
            parameters["continue"] = token

    async def labelled_pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """The pods of a namespace that a label selector selects, whosever they are: the first page."""
        parameters = {"labelSelector": selector, "limit": str(_PAGE_SIZE)}
        page = await self._call("GET", POD.path(namespace), parameters=parameters)
        return page["items"] or []

    async def selected(self, kind: Kind, namespace: str, selector: str) -> list[dict[str, Any]]:
        """The objects of a kind in one namespace that a label selector selects, whoever made them: the first page."""
        parameters = {"labelSelector": selector, "limit": str(_PAGE_SIZE)}
        page = await self._call("GET", kind.path(namespace), parameters=parameters)
        return page["items"] or []

    async def pods_on(self, node: str) -> list[dict[str, Any]]:
        """The pods of a node that hold something of it, whosever they are, as the API server's own cache has them.

        That is cheap: the cache finds them by the node's name, and there are hardly more than a hundred.
        """
        selector = f"spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed"
        page = await self._call("GET", POD.path(), parameters={"fieldSelector": selector, "resourceVersion": "0"})
        return page["items"] or []

    async def first(self, kind: Kind, most: int) -> AsyncIterator[dict[str, Any]]:
        """So many objects of a kind of the whole cluster, whole, page by page."""
        left = most
        async for page in self._pages(kind, None, accept=_JSON, selector=""):
            for item in (page["items"] or ())[:left]:
                yield item
            left -= len(page["items"] or ())
            if left <= 0:
                return

    async def read(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any]:
        """One object as it is, of a namespace or of the whole cluster."""
        return await self._call("GET", kind.path(namespace, name))

    async def warnings_about(self, live: LiveObject) -> list[dict[str, Any]]:
        """The Events of type Warning about this very object: the first page, which kubelet never fills in an hour."""
        return await self.events_about(live, ",type=Warning")

    async def events_about(self, live: LiveObject, more: str = "") -> list[dict[str, Any]]:
        """The Events about this very object, first page; `more` is a further part of the field selector."""
        selector = f"involvedObject.uid={live.uid}{more}"
        parameters = {"fieldSelector": selector, "limit": str(_MOST_EVENTS)}
        page = await self._call("GET", EVENT.path(live.namespace), parameters=parameters)
        return page["items"] or []

    async def post_event(self, event: Mapping[str, Any]) -> None:
        """Create a Kubernetes Event."""
        path = EVENT.path(event["metadata"]["namespace"])
        await self._call("POST", path, body=event, content_type=_JSON, parameters={"fieldManager": FIELD_MANAGER})

    async def check_served(self, kind: Kind, namespace: str | None = None) -> None:
        """Make sure that a kind can be listed, and that those who look for the kinds that there are find it.

        That one namespace lets nobody list it says nothing of the kind: it may not even exist yet. The lists of groups
        and of kinds follow a new CustomResourceDefinition a moment after its objects can be listed.

        Raises:
            ApiNotServed: the API server does not serve the kind, or does not say so yet.
            ApiError: it cannot be listed.
        """
        try:
            await self._call("GET", kind.path(namespace), parameters={"limit": "1"}, accept=_METADATA_ONLY)
        except ApiRefused:
            if namespace is None:
                raise
        group, _, _ = kind.api_version.rpartition("/")
        if group and group not in await self.served_groups():
            raise ApiNotServed("GET /apis", f"{group} is not among the API groups yet")
        resources = await self._call("GET", kind.root)
        if kind.plural not in [found["name"] for found in resources.get("resources") or ()]:
            raise ApiNotServed(f"GET {kind.root}", f"{kind.plural} is not among the resources yet")

    async def served_groups(self) -> frozenset[str]:
        """The API groups of which the API server, or one that it hands requests on to, serves any version.

        Raises:
            ApiError: it does not say.
        """
        groups = await self._call("GET", "/apis")
        return frozenset(found["name"] for found in groups.get("groups") or ())

    async def serves(self, kind: Kind) -> bool:
        """Whether the API server serves this very version of a kind; everybody may ask.

        Raises:
            ApiError: it does not say.
        """
        try:
            resources = await self._call("GET", kind.root)
        except ApiNotFound:
            return False
        return kind.plural in [found["name"] for found in resources.get("resources") or ()]

    async def may(self, right: MissingRight) -> bool:
        """Whether the API server would let us do something by now. The question writes nothing: everybody may ask.

        Raises:
            ApiError: it does not say.
        """
        answer = await self._call("POST", REVIEWS_PATH, body=right.review, content_type=_JSON, fence=UNGUARDED)
        return bool(answer.get("status", {}).get("allowed"))

    async def check_listable(self, kind: Kind, namespace: str | None) -> None:
        """Make sure that the objects of a kind can be listed, in one namespace or in all.

        Raises:
            ApiError: they cannot.
        """
        await self._call("GET", kind.path(namespace), parameters={"limit": "1"}, accept=_METADATA_ONLY)

    async def identities(self, kind: Kind, namespace: str | None = None) -> Identities:
        """All objects of a kind that concern the operator, by their metadata alone; of one namespace, or of all.

        No resource version is asked for: the API server shows what its store holds at that moment, and not what its
        own cache happens to (Kubernetes API concepts, "Semantics for get and list": Most Recent).
        """
        version, found = 0, list[Identity]()
        async for page in self._pages(kind, namespace, accept=_METADATA_ONLY):
            version = version or int(page.get("metadata", {}).get("resourceVersion") or 0)
            for item in page["items"] or ():  # null where there is nothing
                metadata = item["metadata"]
                identity = (metadata["namespace"], metadata["name"], metadata["uid"])
                found.append(Identity(*identity, int(metadata["resourceVersion"])))
        return Identities(version, tuple(found))

    async def objects(self, kind: Kind, namespace: str | None = None) -> AsyncIterator[LiveObject]:
        """All objects of a kind that concern the operator, whole; of one namespace, or of all.

        Raises:
            ApiNotFound: the API server does not serve the kind.
        """
        async for page in self._pages(kind, namespace, accept=_JSON):
            for item in page["items"] or ():  # null where there is nothing
                yield live_object(item, kind=kind.kind)

    async def others(self, kind: Kind, namespace: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """All objects of a kind that no operator of ours made, whole; of one namespace, or of all."""
        async for page in self._pages(kind, namespace, accept=_JSON, selector=f"{MANAGED_BY}!={MANAGER}"):
            for item in page["items"] or ():
                yield item

    async def objects_in(self, kind: Kind, namespace: str) -> list[dict[str, Any]]:
        """The objects of a kind in one namespace, whoever made them: the first page."""
        page = await self._call("GET", kind.path(namespace), parameters={"limit": str(_PAGE_SIZE)})
        return page["items"] or []

    async def _pages(
        self, kind: Kind, namespace: str | None, *, accept: str, selector: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """A list page by page, so that no answer grows with the cluster; without a selector, of what concerns us."""
        path, parameters = kind.path(namespace), {"limit": str(_PAGE_SIZE)}
        if selector := self.scope.selector(kind) if selector is None else selector:
            parameters["labelSelector"] = selector
        while True:
            page = await self._call("GET", path, parameters=parameters, accept=accept)
            if "items" not in page:
                raise ApiUnavailable(f"GET {path}", f"the answer is no list but {page.get('kind')!r}")
            yield page
            token = page.get("metadata", {}).get("continue")
            if not token:
                return
            parameters["continue"] = token

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        parameters: Mapping[str, str] | None = None,
        accept: str = _JSON,
        fence: Fence | None = None,
    ) -> dict[str, Any]:
        fence = fence or self._fence
        headers = {"Accept": accept} | ({"Content-Type": content_type} if content_type else {})
        async with self._slots:  # the deadline is that of the request, and not of waiting for others
            if body is None:
                return await self._send(method, path, None, headers, parameters, seconds=self._timeout_seconds)
            data = FencedBody(json_text.dumps(body), fence)
            with fence.writing() as left:
                seconds = min(left, self._timeout_seconds)
                # the API server gives up by itself too: a request of its outlives the connection it came by
                bound = {} if left == math.inf else {"timeout": f"{max(1, int(seconds * 1000))}ms"}
                where = {**(parameters or {}), **bound}
                try:
                    return await self._send(method, path, data, headers, where, seconds=seconds)
                finally:
                    data.hang_up()

    async def _send(
        self,
        method: str,
        path: str,
        data: FencedBody | None,
        headers: Mapping[str, str],
        parameters: Mapping[str, str] | None,
        *,
        seconds: float,
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.request(
                method, self._server + path, params=parameters, data=data, headers=headers, timeout=timeout
            ) as response:
                content = await response.read()
                if data is not None:
                    data.answered()
                if response.ok:
                    answer: dict[str, Any] = json_text.parsed(content)
                    return answer
                retry_after = retry_after_seconds(response.headers.get("Retry-After"))
                error = _error(f"{method} {path}", response.status, content, retry_after)
                if isinstance(error, ApiRefused):
                    self.rights.refused(error.message)
                raise error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            if data is not None and data.held_back:
                raise NotLeading(f"{method} {path} was not sent: another replica may be the leader by now") from error
            raise ApiSilent(f"{method} {path}", repr(error)) from error


def _error(what: str, status: int, content: bytes, retry_after: float) -> ApiError:
    """The error that a status stands for, with the message of the API server."""
    try:
        answer = orjson.loads(content)
        message = answer["message"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        answer = {}  # not of the API server, but of something before it
        message = " ".join(content.decode("utf-8", "replace").split())
    text = f"{message} (HTTP {status})"
    details = answer.get("details") or {}
    if status == _NOT_FOUND:
        return (ApiNotFound if details.get("name") else ApiNotServed)(what, text)
    if status == _CONFLICT:
        return ApiConflict(what, text)
    if is_users_error(status, message):
        return ApiRefused(what, text)
    if status in {_GONE, _TOO_MANY} or status >= _SERVER_ERROR:  # gone: the list grew too old, and is asked for anew
        return ApiUnavailable(what, text, retry_after_seconds=retry_after)
    if status == _INVALID:
        fields = [cause.get("field") for cause in details.get("causes") or ()]
        return ApiInvalid(what, text, fields=tuple(field for field in fields if isinstance(field, str)))
    causes = details.get("causes") or ()
    ending = any(cause.get("reason") == _ENDING for cause in causes)
    return (ApiEnding if ending else ApiRefused)(what, text)
