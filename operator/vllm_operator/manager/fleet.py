"""What the others of a model allow an engine: suspicion never takes more than half of them, nor the last. Pure.

Each judge decides for itself, out of what DNS and the other managers say. They do not agree on anything, so the rule
has to hold when all decide at once:

- Whoever is suspected tells it (`/status`) for ANNOUNCED_SECONDS before it goes, and goes only on a view that is at
  most VIEW_SECONDS old. Of two that go at the same time at least one has seen the other, and both have where the time
  told is twice the age of a view.
- Those that are suspected go by their addresses. An engine goes only if at least half of the fleet stays without it and
  without all that are suspected and go before it.
- A manager that does not answer counts as an engine that has gone. Only after DNS_SECONDS, when DNS has forgotten
  whoever left before, one with a higher address counts as staying: it cannot go before this one does.

An engine that has gone for a suspicion comes back when fewer than half are left.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .evidence import Peer, PeersLook
    from .memory import Memory

ANNOUNCED_SECONDS = 5.0
VIEW_SECONDS = 2.5
DNS_SECONDS = 25.0
"""Kubelet, endpoints, CoreDNS's cache of 5 s and the resolver's: until an address has left DNS."""

KEPT_VIEW_SECONDS = 30.0
"""An engine that has gone believes an older view for so long, so that a failed lookup does not bring it back."""

REFRESH_SECONDS = 60.0
"""So often the others are looked at without a reason: how many there were is known then, when some are missing."""

TURN_SECONDS = 900.0
"""So long an engine waits for its turn to be restarted."""


def needed(peers: PeersLook) -> int:
    """How many have to stay: half of all that there were, rounded up."""
    present = 1 + sum(peer.routable for peer in peers.others)
    return (max(present, peers.most_routable) + 1) // 2


def may_leave(memory: Memory) -> bool:
    """Whether enough others serve for this engine to go, or to stay away, for a mere suspicion."""
    peers, now = memory.peers, memory.looked_at
    if peers is None or now is None or not any(peer.routable for peer in peers.others):
        return False
    sure = [peer for peer in peers.others if peer.routable and peer.reachable]
    unsure = [peer for peer in peers.others if peer.routable and not peer.reachable]
    if memory.left_since is not None:
        return now - peers.at <= KEPT_VIEW_SECONDS and len(sure) + len(unsure) >= needed(peers)
    told = 0.0 if memory.suspected_since is None else now - memory.suspected_since
    if told < ANNOUNCED_SECONDS or now - peers.at > VIEW_SECONDS:
        return False
    staying = sum(not (peer.suspected and _before(peer, peers)) for peer in sure)
    if told >= DNS_SECONDS:
        staying += sum(not _before(peer, peers) for peer in unsure)
    return staying >= needed(peers)


def may_restart(memory: Memory) -> bool:
    """Whether it is this engine's turn: one at a time, by their addresses."""
    peers = memory.peers
    if peers is None:
        return True
    return not any(peer.restarting or (peer.suspected and _before(peer, peers)) for peer in peers.others)


def _before(peer: Peer, peers: PeersLook) -> bool:
    return peer.address < peers.own_address
