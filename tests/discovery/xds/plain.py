"""Resources as they stand in JSON, without their type."""

from __future__ import annotations

from svcmesh.discovery.xds.kinds import HTTP_MANAGER


def assignment(name, *addresses, **more):
    sockets = [address.rpartition(":") for address in addresses]
    listed = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
        for host, _, port in sockets
    ]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": listed}] if listed else []} | more


def cluster(name, endpoints):
    return {"name": name, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"service_name": endpoints}}


def routes(name, to):
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": ""}, "route": {"cluster": to}}]}]
    return {"name": name, "virtual_hosts": hosts}


def listener(name, table):
    manager = {"@type": HTTP_MANAGER, "stat_prefix": "x", "rds": {"route_config_name": table}}
    return {"name": name, "api_listener": {"api_listener": manager}}
