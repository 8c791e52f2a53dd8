"""A real Envoy as a proxy: what it does with calls is compared with what svcmesh does with the same ones.

Every cluster is a configuration to compare. A request says with headers which cluster it is for (``x-cluster``), to
which host it goes (``x-endpoint``, as a header of a session; else Envoy chooses), what its key is (``x-key``, or by the
policies that ``x-policy`` names), and how often it is repeated, on hosts that were not tried, where servers fail
(``x-retries``).
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from svcmesh import Locality
from tests.servers.consul_agent import until
from tests.servers.xds.envoy import Envoy

PATIENCE = 0.05
"""Seconds that are waited for a server that hangs, here and there."""

MOST_RETRIES = 3

HostThere = tuple[int, Locality, dict[str, Any]]
"""The priority of a host, its locality and what Envoy is told of it."""

_TYPES = "type.googleapis.com/envoy.extensions."
_SESSION = {
    "name": "envoy.http.stateful_session.header",
    "typed_config": {
        "@type": _TYPES + "http.stateful_session.header.v3.HeaderBasedSessionState",
        "name": "x-endpoint",
    },
}


class EnvoyProxy(Envoy):
    """A process that listens for calls.

    Args:
        directory: for its files. clusters: as of `cluster`.
        subsets: what the metadata of hosts must have for requests whose ``x-subset`` says so, by that.
        policies: what the key is made of for requests whose ``x-policy`` says so, by that.
        zone, own: where it is, and the cluster that it belongs to itself.
    """

    def __init__(
        self,
        directory: Path,
        clusters: Sequence[dict[str, Any]],
        subsets: Mapping[str, Mapping[str, str]] | None = None,
        *,
        policies: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        zone: Locality | None = None,
        own: str = "",
    ) -> None:
        self._log_of_ejections = directory / "ejections"
        self._log_of_ejections.touch()
        log = {"event_log_path": str(self._log_of_ejections)}
        super().__init__(
            directory,
            clusters=list(clusters),
            listeners=[_listener(subsets or {}, policies or {})],
            cluster_manager={"outlier_detection": log, "local_cluster_name": own},
            locality=_place(zone or Locality()),
        )
        self._questions = http.client.HTTPConnection(self._admin.read_text(), timeout=60)
        found = json.loads(self.ask("listeners?format=json"))
        port = found["listener_statuses"][0]["local_address"]["socket_address"]["port_value"]
        self._calls = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        until(self._takes_calls)

    def _takes_calls(self) -> bool:
        """Whether it takes calls already: it does not before hosts of which it wants to know have been checked."""
        try:
            self._calls.connect()
        except ConnectionRefusedError:
            return False
        return True

    def send(self, cluster: str, **headers: str) -> str | None:
        """Send a request; return which server answered."""
        named = [("x-" + name, value) for name, value in headers.items()]
        return self.get("/", [("x-cluster", cluster), *named])

    def get(self, target: str, headers: Sequence[tuple[str, str | bytes]]) -> str | None:
        """Send a request for ``target`` with just these headers; return which server answered."""
        self._calls.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
        for name, value in [("host", "orders"), *headers]:
            self._calls.putheader(name, value)
        self._calls.endheaders()
        response = self._calls.getresponse()
        response.read()
        return response.getheader("x-server")

    @contextmanager
    def held(self, cluster: str, count: int, **headers: str) -> Iterator[list[str | None]]:
        """Send requests whose answers begin and do not end; give which servers have them, the first request's first."""
        named = {"x-" + name: value for name, value in headers.items()} | {"x-cluster": cluster, "x-answer": "hold"}
        with ExitStack() as stack:
            servers = []
            for _ in range(count):
                connection = stack.enter_context(
                    closing(http.client.HTTPConnection(self._calls.host, self._calls.port, timeout=60))
                )
                connection.request("GET", "/", headers=named)
                servers.append(stack.enter_context(closing(connection.getresponse())).getheader("x-server"))
            yield servers

    def call(self, cluster: str, **headers: str) -> str | None:
        """Send a request; return which server answered, once what follows from that for its host has followed."""
        found = self.send(cluster, **headers)
        self.counted(cluster, "ejections_active")  # its main thread has heard by then what its worker has seen
        return found

    def ask(self, what: str) -> str:
        """Return what its admin interface says to a request for this path."""
        self._questions.request("GET", "/" + what)
        return str(self._questions.getresponse().read(), "utf-8")

    def counted(self, cluster: str, name: str) -> int:
        """Return a number of its outlier detection."""
        found = self.ask(f"stats?filter=^cluster.{cluster}.outlier_detection.{name}$")
        return int(found.rpartition(": ")[2])

    def out(self, cluster: str) -> set[str]:
        """Return who is ejected now."""
        return {
            address for address, one in self.hosts(cluster).items() if one["health_status"].get("failed_outlier_check")
        }

    def ejected(self, cluster: str) -> list[tuple[str, str]]:
        """Return what was ejected, as type and address, in this order."""
        enforced = self.counted(cluster, "ejections_enforced_total")
        until(lambda: len(self._ejections(cluster)) >= enforced)  # the log is written now and then
        return [(each["type"].lower(), each["upstream_url"]) for each in self._ejections(cluster)]

    def _ejections(self, cluster: str) -> list[dict[str, Any]]:
        entries = [
            json.loads(line)
            for line in self._log_of_ejections.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]
        return [
            each
            for each in entries
            if each["cluster_name"] == cluster and each["action"] == "EJECT" and each["enforced"]
        ]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._calls.close()
        self._questions.close()
        super().__exit__(kind, error, trace)


def session(address: str) -> str:
    """Return the value of ``x-endpoint`` for an address."""
    return base64.b64encode(address.encode()).decode()


def cluster(
    name: str,
    hosts: Sequence[str | HostThere],
    *,
    weights: Mapping[Locality, int] | None = None,
    weighted: bool = False,
    **fields: Any,
) -> dict[str, Any]:
    """Return a cluster.

    Args:
        name: of it. hosts: as of `host`, or addresses. fields: others of it.
        weights: of localities. weighted: ``weighted_priority_health``.
    """
    groups: dict[tuple[int, Locality], list[Any]] = {}
    for each in hosts:
        priority, locality, found = host(each) if isinstance(each, str) else each
        groups.setdefault((priority, locality), []).append(found)
    endpoints: list[dict[str, Any]] = []
    for (priority, locality), members in groups.items():
        endpoints.append({"priority": priority, "locality": _place(locality), "lb_endpoints": members})
        if weights and locality in weights:
            endpoints[-1]["load_balancing_weight"] = weights[locality]
    load = {"cluster_name": name, "endpoints": endpoints, "policy": {"weighted_priority_health": weighted}}
    return {"name": name, "type": "STATIC", "connect_timeout": "10s", "load_assignment": load} | fields


def host(address: str, *, priority: int = 0, locality: Locality | None = None, **fields: Any) -> HostThere:
    """Return a host and where it is; ``fields``: of its ``LbEndpoint``."""
    name, _, port = address.rpartition(":")
    socket = {"socket_address": {"address": name, "port_value": int(port)}}
    return priority, locality or Locality(), {"endpoint": {"address": socket}} | fields


def _place(locality: Locality) -> dict[str, str]:
    return {"region": locality.region, "zone": locality.zone}


def _listener(
    subsets: Mapping[str, Mapping[str, str]], policies: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    route = {
        "cluster_header": "x-cluster",
        "hash_policy": [{"header": {"header_name": "x-key"}}],
        "timeout": "60s",
    }
    routes = [_by_header("answer", "hang", route | {"timeout": f"{PATIENCE}s"})]
    previous = {"@type": _TYPES + "retry.host.previous_hosts.v3.PreviousHostsPredicate"}
    elsewhere = {
        "retry_on": "5xx",
        "retry_host_predicate": [{"name": "previous", "typed_config": previous}],
        "host_selection_retry_max_attempts": 15,
        "retry_back_off": {"base_interval": "0.001s"},
    }
    routes += [
        _by_header("retries", str(times), route | {"retry_policy": elsewhere | {"num_retries": times}})
        for times in range(1, MOST_RETRIES + 1)
    ]
    for name, wanted in subsets.items():
        match = {"filter_metadata": {"envoy.lb": dict(wanted)}}
        routes.append(_by_header("subset", name, route | {"metadata_match": match}))
    routes += [_by_header("policy", name, route | {"hash_policy": list(made_of)}) for name, made_of in policies.items()]
    routes.append({"match": {"prefix": "/"}, "route": route})
    session_filter = {
        "@type": _TYPES + "filters.http.stateful_session.v3.StatefulSession",
        "session_state": _SESSION,
        "strict": True,
    }
    router = {"@type": _TYPES + "filters.http.router.v3.Router"}
    manager = {
        "@type": _TYPES + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "calls",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": "session", "typed_config": session_filter},
            {"name": "router", "typed_config": router},
        ],
    }
    return {
        "name": "calls",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _by_header(name: str, value: str, route: dict[str, Any]) -> dict[str, Any]:
    header = {"name": "x-" + name, "string_match": {"exact": value}}
    return {"match": {"prefix": "/", "headers": [header]}, "route": route}
