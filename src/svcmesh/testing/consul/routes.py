"""From method and path to what is done: the endpoints of Consul's HTTP interface that a fake answers."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from svcmesh.testing.consul.agent import Agent, check_record, service_record
from svcmesh.testing.consul.answers import HttpError, Reply, Request
from svcmesh.testing.consul.reads import Reads
from svcmesh.testing.consul.rights import Rights
from svcmesh.testing.consul.store import Record

_WHOSE = (("ns", "Namespace"), ("partition", "Partition"))
Handler = Callable[..., "Reply | Awaitable[Reply]"]


class Routes:
    """Answers requests. Threads: one loop."""

    def __init__(self, agent: Agent, reads: Reads, rights: Rights) -> None:
        self._agent = agent
        self._reads = reads
        self._rights = rights
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/v1/status/leader", lambda _: Reply("127.0.0.1:8300")),
            ("GET", "/v1/agent/self", self._self),
            ("GET", "/v1/agent/services", self._services),
            ("GET", "/v1/agent/checks", self._checks),
            ("GET", "/v1/agent/service/([^/]+)", self._service),
            ("PUT", "/v1/agent/service/register", self._register),
            ("PUT", "/v1/agent/service/deregister/([^/]+)", self._deregister),
            ("PUT", "/v1/agent/service/maintenance/([^/]+)", self._maintain),
            ("PUT", "/v1/agent/maintenance", lambda request: self._maintain(request, None)),
            ("PUT", "/v1/agent/check/register", self._add_check),
            ("PUT", "/v1/agent/check/deregister/([^/]+)", self._drop_check),
            ("PUT", "/v1/agent/check/(pass|warn|fail)/([^/]+)", self._beat),
            ("PUT", "/v1/agent/check/update/([^/]+)", self._update),
            ("PUT", "/v1/catalog/register", self._catalog_register),
            ("PUT", "/v1/catalog/deregister", self._catalog_deregister),
            ("GET", "/v1/catalog/nodes", reads.catalog_nodes),
            ("GET", "/v1/catalog/services", reads.catalog_services),
            ("GET", "/v1/catalog/service/([^/]+)", reads.catalog_service),
            ("GET", "/v1/health/service/([^/]+)", reads.health_service),
            ("GET", "/v1/health/checks/([^/]+)", reads.health_checks),
            ("GET", "/v1/health/state/([^/]+)", reads.health_state),
            ("POST", "/v1/internal/acl/authorize", self._authorize),
            ("POST", "/v1/query", self._add_query),
            ("GET", "/v1/query/([^/]+)/execute", reads.execute),
        ]
        self._table = [(method, re.compile(path), handler) for method, path, handler in table]

    async def answer(self, request: Request) -> Reply:
        """Return the answer to a request.

        Raises:
            HttpError: one of Consul's.
        """
        self._rights.check(request)
        allowed: list[str] = []
        for method, path, handler in self._table:
            found = path.fullmatch(request.path)
            if found is None:
                continue
            if method != request.method:
                allowed.append(method)
                continue
            reply = handler(request, *(unquote(part) for part in found.groups()))
            return reply if isinstance(reply, Reply) else await reply
        if allowed:
            raise HttpError(405, f"method {request.method} not allowed")
        raise HttpError(404, f"Invalid URL path: not a recognized HTTP API endpoint: {request.path}")

    # -- the agent -------------------------------------------------------------------------------------------------

    def _self(self, _: Request) -> Reply:
        agent = self._agent
        config = {"Datacenter": agent.datacenter, "NodeName": agent.node, "Version": "1.21.0", "Server": True}
        return Reply({"Config": config, "Member": {"Name": agent.node, "Addr": agent.address}})

    def _services(self, _: Request) -> Reply:
        mine = self._agent.store.services
        return Reply({key: service for (node, key), service in mine.items() if node == self._agent.node})

    def _checks(self, _: Request) -> Reply:
        mine = self._agent.store.checks
        return Reply({key: check for (node, key), check in mine.items() if node == self._agent.node})

    def _of(self, request: Request, service_id: str) -> Record:
        """Return a service of the namespace and partition that a request is about.

        Raises:
            HttpError: 404.
        """
        service = self._agent.service(service_id)
        if any((request.one(key) or "default") != service.get(name, "default") for key, name in _WHOSE):
            raise HttpError(404, f'Unknown service ID "{service_id}" there')
        return service

    def _service(self, request: Request, service_id: str) -> Reply:
        service = self._of(request, service_id)
        self._rights.need(request, "service:read", service["Service"])
        return Reply(service)

    def _register(self, request: Request) -> Reply:
        body = {name: request.one(key) for key, name in _WHOSE if request.one(key)} | request.json()
        self._rights.need(request, "service:write", str(body.get("Name", "")))
        self._agent.register(body, replace_checks=request.one("replace-existing-checks") == "true")
        return Reply()

    def _deregister(self, request: Request, service_id: str) -> Reply:
        self._rights.need(request, "service:write", self._of(request, service_id)["Service"])
        self._agent.deregister(service_id)
        return Reply()

    def _maintain(self, request: Request, service_id: str | None) -> Reply:
        if request.one("enable") not in {"true", "false", "1", "0"}:
            raise HttpError(400, "Missing value for enable")
        if service_id is not None:
            self._rights.need(request, "service:write", self._of(request, service_id)["Service"])
        self._agent.maintain(service_id, enable=request.one("enable") in {"true", "1"}, reason=request.one("reason"))
        return Reply()

    def _add_check(self, request: Request) -> Reply:
        self._agent.add_check(request.json())
        return Reply()

    def _drop_check(self, _: Request, check_id: str) -> Reply:
        self._agent.drop_check(check_id)
        return Reply()

    def _beat(self, request: Request, how: str, check_id: str) -> Reply:
        status = {"pass": "passing", "warn": "warning", "fail": "critical"}[how]
        return self._take(request, check_id, status, request.one("note"))

    def _update(self, request: Request, check_id: str) -> Reply:
        body = request.json()
        return self._take(request, check_id, str(body.get("Status", "")), str(body.get("Output", "")))

    def _take(self, request: Request, check_id: str, status: str, output: str) -> Reply:
        check = self._agent.checks.get(check_id)
        if check is not None:
            if check.definition["ServiceID"]:
                self._of(request, check.definition["ServiceID"])
            self._rights.need(request, "service:write", check.definition["ServiceName"])
        self._agent.update(check_id, status, output)
        return Reply()

    # -- the servers -----------------------------------------------------------------------------------------------

    def _catalog_register(self, request: Request) -> Reply:
        """Write into the catalogue past any agent, as tools for other systems do."""
        body = request.json()
        store, node = self._agent.store, body["Node"]
        known = store.nodes.get(node, {})
        record = {"ID": body.get("ID", ""), "Node": node, "Address": body.get("Address", known.get("Address", ""))}
        record |= {"Datacenter": body.get("Datacenter") or self._agent.datacenter}
        record |= {"TaggedAddresses": body.get("TaggedAddresses"), "Meta": body.get("NodeMeta") or {}}
        store.put_node(record)
        service = body.get("Service")
        if service:
            named = {"Name" if key == "Service" else key: value for key, value in service.items()}
            store.put_service(node, service_record(named))
        for check in [*([body["Check"]] if body.get("Check") else []), *(body.get("Checks") or ())]:
            owner = store.services.get((node, check.get("ServiceID", "")))
            check_id = check.get("CheckID") or check.get("Name", "")
            store.put_check(
                node, check_record(node, check_id, check.get("Name", ""), check.get("Status", "critical"), "", owner)
            )
        return Reply(value=True)

    def _catalog_deregister(self, request: Request) -> Reply:
        body = request.json()
        store, node = self._agent.store, body["Node"]
        if body.get("ServiceID"):
            store.drop_service(node, body["ServiceID"])
        elif body.get("CheckID"):
            store.drop_check(node, body["CheckID"])
        else:
            store.drop_node(node)
        return Reply(value=True)

    def _authorize(self, request: Request) -> Reply:
        """Say what the token may do, for each thing that is asked."""
        if not self._rights.enabled:
            raise HttpError(401, "ACL support disabled")
        asked: list[dict[str, str]] = json.loads(request.body)
        return Reply([
            {**one, "Allow": self._rights.may(request, f"{one['Resource']}:{one['Access']}", one.get("Segment", ""))}
            for one in asked
        ])  # fmt: skip

    def _add_query(self, request: Request) -> Reply:
        body: dict[str, Any] = request.json()
        if not (body.get("Service") or {}).get("Service"):
            raise HttpError(400, "Must provide a Service name to query")
        identity = f"00000000-0000-0000-0001-{len(self._reads.queries):012}"
        self._reads.queries |= {identity: body} | ({body["Name"]: body} if body.get("Name") else {})
        return Reply({"ID": identity})
