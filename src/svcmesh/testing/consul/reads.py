"""What a fake Consul is asked: health, catalogue, prepared queries, and the blocking of those that can be held."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from svcmesh.testing.consul.answers import HttpError, Reply, Request, seconds
from svcmesh.testing.consul.filters import compile_filter
from svcmesh.testing.consul.rights import FILTERED, Rights
from svcmesh.testing.consul.store import Record, Store

DEFAULT_WAIT = 300.0
LONGEST_WAIT = 600.0
SERVERS = "consul"
"""The service that the servers themselves are, which every catalogue lists."""


@dataclass(slots=True)
class Reads:
    """Everything that is only read.

    Attributes:
        last_contact: milliseconds since this server heard of its leader, as it says.
        queries: prepared queries by name or id: bodies as `/v1/query` takes them.
        peers: instances in other datacenters, for prepared queries that fail over: by datacenter and service.
    """

    store: Store
    rights: Rights
    node: str
    datacenter: str
    last_contact: int = 0
    queries: dict[str, Record] = field(default_factory=dict)
    peers: dict[tuple[str, str], list[Record]] = field(default_factory=dict)

    async def health_service(self, request: Request, name: str) -> Reply:
        """`/v1/health/service/:name`."""
        self._consistency(request)
        keep = self._filters(request)
        reply = await self._blocking(
            request,
            lambda: self.store.service_index(name),
            lambda reply: self._sorted(request, [e for e in self.seen(request, reply, name) if keep(e)]),
        )
        if "near" not in request.query and ("cached" in request.query or _held(request)[0]):
            reply.headers["X-Consul-Query-Backend"] = "streaming"  # the agent answers by what it is sent of changes,
            reply.headers.pop(FILTERED, None)  # and that says nothing of rights
        return reply

    async def health_state(self, request: Request, state: str) -> Reply:
        """`/v1/health/state/:state`."""
        return await self._blocking(
            request,
            lambda: self.store.checks_index,
            lambda reply: self.rights.filtered(
                request, reply, self._checks(lambda c: state in {"any", c["Status"]}), ""
            ),
        )

    async def health_checks(self, request: Request, name: str) -> Reply:
        """`/v1/health/checks/:name`."""
        return await self._blocking(
            request,
            lambda: self.store.service_index(name),
            lambda reply: self.rights.filtered(request, reply, self._checks(lambda c: c["ServiceName"] == name), name),
        )

    async def catalog_nodes(self, request: Request) -> Reply:
        """`/v1/catalog/nodes`."""

        def found(reply: Reply) -> list[Record]:
            nodes = [node for name, node in self.store.nodes.items() if self.rights.may(request, "node:read", name)]
            if len(nodes) < len(self.store.nodes):
                self.rights.tell_filtered(request, reply)
            return nodes

        return await self._blocking(request, lambda: self.store.index, found)

    async def catalog_services(self, request: Request) -> Reply:
        """`/v1/catalog/services`."""

        def found(reply: Reply) -> dict[str, list[str]]:
            tags: dict[str, set[str]] = {SERVERS: set()}
            for service in self.store.services.values():
                tags.setdefault(service["Service"], set()).update(service["Tags"])
            seen = {name for name in tags if self.rights.may(request, "service:read", name)}
            if len(seen) < len(tags):
                self.rights.tell_filtered(request, reply)
            return {name: sorted(tags[name]) for name in sorted(seen)}

        return await self._blocking(request, lambda: self.store.services_index, found)

    async def catalog_service(self, request: Request, name: str) -> Reply:
        """`/v1/catalog/service/:name`: other keys, and no health."""

        def found(reply: Reply) -> list[Record]:
            return [_flat(entry) for entry in self.seen(request, reply, name)]

        return await self._blocking(request, lambda: self.store.service_index(name), found)

    def execute(self, request: Request, name: str) -> Reply:
        """`/v1/query/:name/execute`: cannot be held; in random order; fails over to other datacenters.

        Raises:
            HttpError: 404, there is no such query.
        """
        query = self.queries.get(name)
        if query is None:
            raise HttpError(404, "Query not found")
        reply = Reply()
        service = query["Service"]
        wanted, failovers, datacenter = service["Service"], 0, self.datacenter
        nodes = [e for e in self.seen(request, reply, wanted) if self._selected(e, service)]
        for other in (service.get("Failover") or {}).get("Datacenters") or ():
            if nodes:
                break
            failovers, datacenter = failovers + 1, other
            nodes = [e for e in self.peers.get((other, wanted), []) if self._selected(e, service)]
        if "near" in request.query or service.get("Near"):
            nodes = self._sorted(request, nodes)
        else:
            random.Random(self.store.index).shuffle(nodes)
        limit = int(request.one("limit", "0"))
        reply.value = {
            "Service": wanted,
            "Nodes": nodes[:limit] if limit else nodes,
            "DNS": {"TTL": ""},
            "Datacenter": datacenter,
            "Failovers": failovers,
        }
        return self._marked(reply, self.store.index)

    # -- what all share --------------------------------------------------------------------------------------------

    async def _blocking(self, request: Request, index: Callable[[], int], value: Callable[[Reply], Any]) -> Reply:
        """Answer at once, or once the index has passed the one that was sent, or once the wait is over."""
        held, wait = _held(request)
        if held:
            with_jitter = wait + random.Random(held).uniform(0, wait / 16)
            restored = self.store.restored
            try:
                async with asyncio.timeout(with_jitter):
                    while index() <= held and self.store.restored == restored:
                        await self.store.changed()
            except TimeoutError:
                pass
        reply = Reply()
        reply.value = value(reply)
        if "cached" in request.query:
            reply.headers |= {"X-Cache": "HIT" if held else "MISS", "Age": "0"}
        return self._marked(reply, index())

    def _marked(self, reply: Reply, index: int) -> Reply:
        reply.headers |= {
            "X-Consul-Index": str(max(1, index)),
            "X-Consul-KnownLeader": "true",
            "X-Consul-LastContact": str(self.last_contact),
            "X-Consul-Effective-Consistency": "leader",
            "X-Consul-Default-ACL-Policy": self.rights.default_policy,
            "X-Consul-Query-Backend": "blocking-query",
        }
        return reply

    def seen(self, request: Request, reply: Reply, name: str) -> list[Record]:
        """Return the instances of a service in the datacenter that is asked for, as far as the token may see them.

        Raises:
            HttpError: 500, there is no such datacenter.
        """
        datacenter = request.one("dc") or self.datacenter
        if datacenter == self.datacenter:
            entries = self.store.instances(name)
        elif any(known == datacenter for known, _ in self.peers):
            entries = self.peers.get((datacenter, name), [])
        else:
            raise HttpError(500, "No path to datacenter")
        for key, field_ in (("ns", "Namespace"), ("partition", "Partition")):
            wanted = request.one(key) or "default"
            entries = [e for e in entries if e["Service"].get(field_, "default") == wanted or wanted == "*"]
        return self.rights.filtered(request, reply, entries, name)

    def _filters(self, request: Request) -> Callable[[Record], bool]:
        keep = compile_filter(request.one("filter")) if request.one("filter") else lambda _: True
        tags, metas = (
            set(request.query.get("tag", ())),
            [one.partition(":") for one in request.query.get("node-meta", ())],
        )
        passing = request.flag("passing")

        def kept(entry: Record) -> bool:
            return (
                keep(entry)
                and tags <= set(entry["Service"]["Tags"])
                and all(entry["Node"].get("Meta", {}).get(key) == value for key, _, value in metas)
                and (not passing or all(check["Status"] == "passing" for check in entry["Checks"]))
            )

        return kept

    def _selected(self, entry: Record, service: Record) -> bool:
        allowed = {"passing"} if service.get("OnlyPassing") else {"passing", "warning"}
        return status_of(entry) in allowed and set(service.get("Tags") or ()) <= set(entry["Service"]["Tags"])

    def _sorted(self, request: Request, entries: list[Record]) -> list[Record]:
        near = request.one("near")
        near = self.node if near == "_agent" else near
        return sorted(entries, key=lambda entry: entry["Node"]["Node"] != near) if near else entries

    def _checks(self, keep: Callable[[Record], bool]) -> list[Record]:
        return [check for check in self.store.checks.values() if keep(check)]

    def _consistency(self, request: Request) -> None:
        if request.flag("stale") and request.flag("consistent"):
            raise HttpError(400, "Cannot specify ?stale with ?consistent, conflicting semantics.")
        if request.flag("cached") and request.flag("consistent"):
            raise HttpError(400, "Cannot specify ?cached with ?consistent, conflicting semantics.")


def status_of(entry: Record) -> str:
    """Return the worst status of the checks of an instance; one that is unknown counts as critical."""
    found = {check["Status"] for check in entry["Checks"]}
    if found <= {"passing"}:
        return "passing"
    return "warning" if found <= {"passing", "warning"} else "critical"


def _held(request: Request) -> tuple[int, float]:
    """Return the index and the time for which a question may be held."""
    text = request.one("index", "0")
    if not text.isdigit():
        raise HttpError(400, "Invalid index")
    try:
        wait = seconds(request.one("wait")) if request.one("wait") else DEFAULT_WAIT
    except ValueError:
        raise HttpError(400, "Invalid wait time") from None
    return int(text), min(wait, LONGEST_WAIT)


def _flat(entry: Record) -> Record:
    node, service = entry["Node"], entry["Service"]
    return {
        **{key: node[key] for key in ("ID", "Node", "Address", "Datacenter") if key in node},
        "ServiceID": service["ID"],
        "ServiceName": service["Service"],
        "ServiceTags": service["Tags"],
        "ServiceAddress": service["Address"],
        "ServiceMeta": service["Meta"],
        "ServicePort": service["Port"],
        "ServiceWeights": service["Weights"],
    }
