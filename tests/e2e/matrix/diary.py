"""What the API server tells of a fleet over time: who is behind its Service, and which containers were restarted."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.support.api import Api, Watch


@dataclass(frozen=True)
class Change:
    """Something about one pod became otherwise.

    Attributes:
        at: Seconds of the monotonic clock.
        pod: Its name.
        routable: Whether it takes traffic.
        restarts: How often its engine's container was restarted.
    """

    at: float
    pod: str
    routable: bool
    restarts: int

    def __str__(self) -> str:
        return f"{self.pod}: {'in' if self.routable else 'out'}, {self.restarts} restarts"


class Diary:
    """Writes down each change of a fleet, as the watches of the API server tell it."""

    def __init__(self, api: Api, namespace: str, service: str, selector: str) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._routable: dict[str, set[str]] = {}
        self._restarts: dict[str, int] = {}
        self._changes: list[Change] = []
        self._watches: list[Watch] = []
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._follow(slices, f"kubernetes.io/service-name={service}", self._endpoints)
        self._follow(f"/api/v1/namespaces/{namespace}/pods", selector, self._pod)

    def close(self) -> None:
        """Write no more."""
        for watch in self._watches:
            watch.close()

    def changes(self, pod: str, since: float) -> list[Change]:
        """Those of one pod from a moment on."""
        with self._lock:
            return [change for change in self._changes if change.pod == pod and change.at >= since]

    def routable(self) -> frozenset[str]:
        """Who takes traffic now."""
        with self._lock:
            return frozenset().union(*self._routable.values())

    def withdrawn_at(self, pod: str, since: float) -> float | None:
        """When a pod lost its traffic, after a moment."""
        return next((change.at for change in self.changes(pod, since) if not change.routable), None)

    def restarted_at(self, pod: str, since: float) -> float | None:
        """When its container was restarted, after a moment."""
        before = self._before(pod, since)
        return next((change.at for change in self.changes(pod, since) if change.restarts > before), None)

    def admitted_at(self, pod: str, since: float) -> float | None:
        """When it took traffic again, after it had lost it."""
        lost = self.withdrawn_at(pod, since)
        if lost is None:
            return None
        return next((change.at for change in self.changes(pod, lost) if change.routable), None)

    def routable_at(self, pod: str, since: float) -> float | None:
        """When it first took traffic, after a moment."""
        return next((change.at for change in self.changes(pod, since) if change.routable), None)

    def fewest(self, since: float) -> int:
        """The smallest number of engines that took traffic at a time, from a moment on."""
        with self._lock:
            found = list(self._changes)
        routable: set[str] = set()
        counts = []
        for change in found:
            routable = routable | {change.pod} if change.routable else routable - {change.pod}
            counts.append((change.at, len(routable)))
        before = [count for at, count in counts if at < since]
        return min([*(before[-1:] or [0]), *(count for at, count in counts if at >= since)])

    def withdrawals(self, since: float) -> int:
        """How often any pod that stays lost its traffic, from a moment on."""
        with self._lock:
            found = list(self._changes)
        count, known = 0, {change.pod: change.routable for change in found if change.at < since}
        for change in (change for change in found if change.at >= since):
            count += known.get(change.pod, False) and not change.routable
            known[change.pod] = change.routable
        return count

    def restarts(self, since: float) -> int:
        """How many restarts there were, from a moment on."""
        with self._lock:
            pods = {change.pod for change in self._changes}
        return sum(self._restarts.get(pod, 0) - self._before(pod, since) for pod in pods)

    def since(self, moment: float) -> str:
        """All changes from a moment on, a line each, for whoever wonders about a figure."""
        with self._lock:
            found = [change for change in self._changes if change.at >= moment]
        return "\n".join(f"{change.at - moment:6.1f} s  {change}" for change in found)

    def _before(self, pod: str, moment: float) -> int:
        with self._lock:
            known = [change.restarts for change in self._changes if change.pod == pod and change.at < moment]
        return known[-1] if known else 0

    def _follow(self, path: str, selector: str, take: Callable[[str, Mapping[str, Any]], None]) -> None:
        watch = self._api.watch(path, labelSelector=selector)
        self._watches.append(watch)

        def work() -> None:
            for event in watch:
                take(event["type"], event["object"])

        threading.Thread(target=work, daemon=True).start()

    def _endpoints(self, kind: str, found: Mapping[str, Any]) -> None:
        ready = {
            endpoint["targetRef"]["name"]
            for endpoint in (found.get("endpoints") or ())
            if kind != "DELETED" and endpoint["conditions"].get("ready")
        }
        with self._lock:
            before = frozenset().union(*self._routable.values())
            self._routable[found["metadata"]["name"]] = ready
            after = frozenset().union(*self._routable.values())
            for pod in sorted(before ^ after):
                self._note(pod)

    def _pod(self, kind: str, found: Mapping[str, Any]) -> None:
        statuses = found.get("status", {}).get("containerStatuses", [])
        restarts = next((status["restartCount"] for status in statuses if status["name"] == CONTAINER_NAME), 0)
        name = found["metadata"]["name"]
        with self._lock:
            if kind != "DELETED" and self._restarts.get(name) != restarts:
                self._restarts[name] = restarts
                self._note(name)

    def _note(self, pod: str) -> None:
        routable = any(pod in names for names in self._routable.values())
        self._changes.append(Change(time.monotonic(), pod, routable, self._restarts.get(pod, 0)))
