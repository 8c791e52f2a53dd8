"""The agent of a fake Consul: it holds registrations and their checks, and tells the servers (the store) of them.

Time is the clock's: a TTL that runs out, and the reaper that removes what was critical for too long, happen when a
test advances it. Checks by HTTP and TCP are made for real, at their interval.

Source: Consul's `agent/agent_endpoint.go`, `agent/local`, `agent/checks`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from svcmesh.core.clock import Clock, Timer, sleep_until
from svcmesh.testing.consul.answers import HttpError, seconds
from svcmesh.testing.consul.probe import probe
from svcmesh.testing.consul.store import Record, Store

SHORTEST_REAPING = 60.0
STATUSES = ("passing", "warning", "critical")

_SERVICE_FIELDS = frozenset({
    "Kind", "ID", "Name", "Tags", "Address", "TaggedAddresses", "SocketPath", "Meta", "Port", "Check", "Checks",
    "Weights", "Token", "EnableTagOverride", "Proxy", "Connect", "Locality", "Namespace", "Partition", "Ports",
})  # fmt: skip
_META_KEY = re.compile(r"[A-Za-z0-9_-]+")
_OUTPUT = 4096


@dataclass(slots=True)
class Check:
    """What the agent knows of a check besides what it tells the servers."""

    definition: Record
    ttl: float | None = None
    expires: float | None = None
    critical_since: float | None = None
    reap_after: float | None = None
    probing: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Agent:
    """One agent. ``lose`` is what happens to it when it restarts without its data. Threads: one loop."""

    store: Store
    clock: Clock
    node: str
    address: str
    datacenter: str
    checks: dict[str, Check] = field(default_factory=dict)
    _timer: Timer | None = None

    # -- services --------------------------------------------------------------------------------------------------

    def join(self) -> None:
        """Appear in the catalogue, alive."""
        tagged = {"lan": self.address, "wan": self.address}
        self.store.put_node(
            {
                "ID": "00000000-0000-0000-0000-000000000001",
                "Node": self.node,
                "Address": self.address,
                "Datacenter": self.datacenter,
                "TaggedAddresses": tagged,
                "Meta": {"consul-network-segment": ""},
            }
        )
        self.store.put_check(self.node, check_record(self.node, "serfHealth", "Serf Health Status", "passing", "alive"))

    def service(self, service_id: str) -> Record:
        """Return a service of this agent.

        Raises:
            HttpError: 404.
        """
        found = self.store.services.get((self.node, service_id))
        if found is None:
            raise HttpError(
                404, f'Unknown service ID "{service_id}". Ensure that the service ID is passed, not the service name.'
            )
        return found

    def register(self, body: Record, *, replace_checks: bool) -> None:
        """Register a service with its checks."""
        service = service_record(body)
        definitions = [*([body["Check"]] if body.get("Check") else []), *(body.get("Checks") or ())]
        checks = [self._check(service, one, number, len(definitions)) for number, one in enumerate(definitions, 1)]
        self.store.put_service(self.node, service)
        kept = {check.definition["CheckID"] for check in checks}
        if replace_checks:
            for check_id in [c["CheckID"] for c in self._checks_of(service["ID"]) if c["CheckID"] not in kept]:
                self.drop_check(check_id)
        for check in checks:
            self._put(check)

    def deregister(self, service_id: str) -> None:
        """Remove a service and its checks."""
        self.service(service_id)
        for check in self._checks_of(service_id):
            self.drop_check(check["CheckID"])
        self.store.drop_service(self.node, service_id)

    def maintain(self, service_id: str | None, *, enable: bool, reason: str) -> None:
        """Put a service (None: the node) under maintenance, or end it."""
        service = None if service_id is None else self.service(service_id)
        check_id = "_node_maintenance" if service_id is None else f"_service_maintenance:{service_id}"
        if not enable:
            self.drop_check(check_id)
            return
        name = "Node Maintenance Mode" if service is None else "Service Maintenance Mode"
        notes = reason or "Maintenance mode is enabled for this service, but no reason was provided."
        record = check_record(self.node, check_id, name, "critical", "", service)
        self.store.put_check(self.node, {**record, "Notes": notes})

    def lose(self) -> None:
        """Forget everything, as an agent does that is replaced."""
        for service in [service_id for node, service_id in self.store.services if node == self.node]:
            self.deregister(service)
        for check_id in [check_id for node, check_id in self.store.checks if node == self.node]:
            self.drop_check(check_id)
        self.join()

    # -- checks ----------------------------------------------------------------------------------------------------

    def add_check(self, body: Record) -> None:
        """Register a check by itself, of a service or of the node."""
        service = self.service(body["ServiceID"]) if body.get("ServiceID") else None
        self._put(self._check(service, body, 1, 1))

    def update(self, check_id: str, status: str, output: str) -> None:
        """Take a heartbeat.

        Raises:
            HttpError: 404, there is no such check; 400, it has no TTL, or the status is none.
        """
        check = self.checks.get(check_id)
        if check is None:
            raise HttpError(
                404, f'Unknown check ID "{check_id}". Ensure that the check ID is passed, not the check name.'
            )
        if status not in STATUSES:
            raise HttpError(400, f"Invalid check status: '{status}'")
        if check.ttl is None:
            raise HttpError(500, f'CheckID "{check_id}" does not have associated TTL')
        check.expires = self.clock.now() + check.ttl
        self._report(check, status, output[:_OUTPUT])
        self._set_timer()

    def drop_check(self, check_id: str) -> None:
        """Forget a check."""
        check = self.checks.pop(check_id, None)
        if check is not None and check.probing is not None:
            check.probing.cancel()
        self.store.drop_check(self.node, check_id)

    def wake(self) -> None:
        """Watch over time (again), on the loop that runs."""
        self._set_timer()

    def close(self) -> None:
        """End all timers and probes."""
        if self._timer is not None:
            self._timer.cancel()
        for check in self.checks.values():
            if check.probing is not None:
                check.probing.cancel()

    def _check(self, service: Record | None, body: Record, number: int, count: int) -> Check:
        """Return a check as its definition says; it begins critical unless that says otherwise."""
        owner = "" if service is None else service["ID"]
        default = f"service:{owner}" + (f":{number}" if count > 1 else "") if owner else body.get("Name", "")
        check_id = body.get("CheckID") or body.get("ID") or default
        name = body.get("Name") or (f"Service '{service['Service']}' check" if service else check_id)
        try:
            ttl = seconds(body["TTL"]) if body.get("TTL") else None
            interval = seconds(body["Interval"]) if body.get("Interval") else None
            reap = seconds(body["DeregisterCriticalServiceAfter"]) if body.get("DeregisterCriticalServiceAfter") else 0
        except ValueError as error:
            raise HttpError(400, f"Invalid check: {error}") from None
        if (ttl is None) == (interval is None) and not body.get("AliasService"):
            raise HttpError(400, "Invalid check: TTL or Interval is required, and only one of them")
        status = body.get("Status") or "critical"
        if status not in STATUSES:
            raise HttpError(400, f"Status for checks must 'passing', 'warning', 'critical', not {status!r}")
        known = self.store.checks.get((self.node, check_id))
        if known is not None and not body.get("Status"):
            status = known["Status"]
        record = check_record(self.node, check_id, name, status, "", service, "ttl" if ttl else _kind(body))
        record["Notes"] = body.get("Notes", "")
        now = self.clock.now()
        return Check(
            record,
            ttl=ttl,
            expires=None if ttl is None else now + ttl,
            critical_since=now if status == "critical" else None,
            reap_after=max(SHORTEST_REAPING, reap) if reap else None,
            probing=self._probe(check_id, body, interval) if interval else None,
        )

    def _put(self, check: Check) -> None:
        check_id = check.definition["CheckID"]
        old = self.checks.get(check_id)
        if old is not None and old.probing is not None:
            old.probing.cancel()
        self.checks[check_id] = check
        self.store.put_check(self.node, check.definition)
        self._set_timer()

    def _probe(self, check_id: str, body: Record, interval: float) -> asyncio.Task[None]:
        timeout = seconds(body["Timeout"]) if body.get("Timeout") else 10.0

        async def run() -> None:
            while True:
                status, output = await probe(body, timeout)
                check = self.checks.get(check_id)
                if check is not None:
                    self._report(check, status, output)
                    self._set_timer()
                await sleep_until(self.clock, self.clock.now() + interval)

        return asyncio.ensure_future(run())

    def _report(self, check: Check, status: str, output: str) -> None:
        """Set a status; as with Consul, an output alone is not told to the servers at once."""
        if status == "critical":
            if check.critical_since is None:
                check.critical_since = self.clock.now()
        else:
            check.critical_since = None
        if status != check.definition["Status"]:
            check.definition = {**check.definition, "Status": status, "Output": output}
            self.store.put_check(self.node, check.definition)

    def _checks_of(self, service_id: str) -> list[Record]:
        return [c for (n, _), c in self.store.checks.items() if n == self.node and c["ServiceID"] == service_id]

    # -- time ------------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        due = [check.expires for check in self.checks.values() if check.expires is not None]
        due += [
            check.critical_since + check.reap_after
            for check in self.checks.values()
            if check.critical_since is not None and check.reap_after is not None
        ]
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.clock.call_at(asyncio.get_running_loop(), min(due), self._tick) if due else None

    def _tick(self) -> None:
        now = self.clock.now()
        for check in list(self.checks.values()):
            if check.expires is not None and check.expires <= now:
                check.expires = None
                self._report(check, "critical", "TTL expired")
        for check_id, check in list(self.checks.items()):
            since, after = check.critical_since, check.reap_after
            if since is not None and after is not None and since + after <= now and check_id in self.checks:
                owner = check.definition["ServiceID"]
                if owner:
                    self.deregister(owner)
                else:
                    check.reap_after = None
        self._set_timer()


def service_record(body: Record) -> Record:
    """Return a service as the catalogue has it.

    Raises:
        HttpError: 400, as an agent says it.
    """
    for key in body:
        if key not in _SERVICE_FIELDS:
            raise HttpError(400, f'Request decode failed: json: unknown field "{key}"')
    if not body.get("Name"):
        raise HttpError(400, "Missing service name")
    if body.get("Address") in {"0.0.0.0", "::", "[::]"}:  # noqa: S104 - what Consul refuses
        raise HttpError(400, "Invalid service address")
    meta = body.get("Meta") or {}
    if len(meta) > 64 or any(not _META_KEY.fullmatch(k) or len(k) > 128 or len(v) > 512 for k, v in meta.items()):
        raise HttpError(400, "Invalid Service Meta")
    if any(key.startswith("consul-") for key in meta):
        raise HttpError(400, "Invalid Service Meta: Key prefix 'consul-' is reserved for internal use")
    weights = {"Passing": 1, "Warning": 1} if body.get("Weights") is None else body["Weights"]
    if weights.get("Passing", 0) < 1 or weights.get("Warning", 0) < 0:
        raise HttpError(400, "Invalid Weights: Passing must be greater than 0")
    record = {
        "ID": body.get("ID") or body["Name"],
        "Service": body["Name"],
        "Tags": body.get("Tags") or [],
        "Address": body.get("Address") or "",
        "TaggedAddresses": body.get("TaggedAddresses") or {},
        "Meta": meta,
        "Port": body.get("Port") or 0,
        "SocketPath": body.get("SocketPath") or "",
        "Weights": {"Passing": weights.get("Passing", 1), "Warning": weights.get("Warning", 0)},
        "EnableTagOverride": bool(body.get("EnableTagOverride")),
    }
    optional = ("Locality", "Namespace", "Partition")
    return record | {key: body[key] for key in optional if body.get(key)}


def check_record(
    node: str,
    check_id: str,
    name: str,
    status: str,
    output: str,
    service: Mapping[str, Any] | None = None,
    kind: str = "",
) -> Record:
    """Return a check as the catalogue has it."""
    return {
        "Node": node,
        "CheckID": check_id,
        "Name": name,
        "Status": status,
        "Notes": "",
        "Output": output,
        "ServiceID": "" if service is None else service["ID"],
        "ServiceName": "" if service is None else service["Service"],
        "ServiceTags": [] if service is None else service["Tags"],
        "Type": kind,
    }


def _kind(body: Record) -> str:
    return next((kind.lower() for kind in ("HTTP", "TCP", "GRPC", "UDP", "Args") if body.get(kind)), "")
