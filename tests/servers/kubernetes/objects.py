"""Objects as an API server writes them: EndpointSlices with all that a cluster puts in, events, and Status."""

from __future__ import annotations

import uuid
from typing import Any

GROUP = "discovery.k8s.io/v1"
_SPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def endpoint(
    address: str, *, pod: str | None = None, zone: str | None = None, hints: list[str] | None = None, **conditions: Any
) -> dict[str, Any]:
    """Return an endpoint: a ready pod unless ``conditions`` say otherwise."""
    pod = pod or f"pod-{address.replace('.', '-').replace(':', '-')}"
    found: dict[str, Any] = {
        "addresses": [address],
        "conditions": {"ready": True, "serving": True, "terminating": False} | conditions,
        "nodeName": f"worker-{zone or 'a'}",
        "targetRef": {"kind": "Pod", "namespace": "prod", "name": pod, "uid": str(uuid.uuid5(_SPACE, pod))},
    }
    if zone is not None:
        found["zone"] = zone
    if hints is not None:
        found["hints"] = {"forZones": [{"name": name} for name in hints]}
    return found


def endpoint_slice(
    namespace: str,
    name: str,
    service: str,
    endpoints: list[dict[str, Any]] | None,
    *,
    ports: list[dict[str, Any]] | None = None,
    address_type: str = "IPv4",
) -> dict[str, Any]:
    """Return a slice without a version; by default with one port, 8080, called http."""
    if ports is None:
        ports = [port(8080, "http")]
    return {
        "metadata": {
            "name": name,
            "generateName": f"{service}-",
            "namespace": namespace,
            "uid": str(uuid.uuid5(_SPACE, f"{namespace}/{name}")),
            "generation": 3,
            "creationTimestamp": "2026-10-11T08:15:30Z",
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": service,
            },
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-10-11T08:16:02Z"},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": service,
                    "uid": str(uuid.uuid5(_SPACE, f"{namespace}/service/{service}")),
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "managedFields": [
                {
                    "manager": "kube-controller-manager",
                    "operation": "Update",
                    "apiVersion": GROUP,
                    "time": "2026-10-11T08:16:02Z",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:addressType": {}, "f:endpoints": {}, "f:metadata": {"f:labels": {}}, "f:ports": {}},
                }
            ],
        },
        "addressType": address_type,
        "endpoints": endpoints,
        "ports": ports,
    }


def port(number: int | None, name: str = "", protocol: str = "TCP") -> dict[str, Any]:
    """Return a port; ``number`` None means all of them."""
    return {"name": name, "protocol": protocol} | ({} if number is None else {"port": number})


def event(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return a line of a watch; there objects say what they are, which they do not in lists."""
    return {"type": kind, "object": {"kind": "EndpointSlice", "apiVersion": GROUP} | found}


def bookmark(version: int) -> dict[str, Any]:
    """Return the line that only tells a version."""
    meta = {"resourceVersion": str(version), "creationTimestamp": None}
    return event("BOOKMARK", {"metadata": meta, "endpoints": None, "ports": None, "addressType": ""})


def status(code: int, reason: str, message: str, **details: Any) -> dict[str, Any]:
    """Return what says that something went wrong."""
    found = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return found | {"reason": reason, "code": code} | ({"details": details} if details else {})


UNAUTHORIZED = status(401, "Unauthorized", "Unauthorized")
EXPIRED_PAGE = status(
    410,
    "Expired",
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results.",
)


def forbidden(verb: str, namespace: str) -> dict[str, Any]:
    """Return what RBAC says."""
    return status(
        403,
        "Forbidden",
        'endpointslices.discovery.k8s.io is forbidden: User "system:serviceaccount:prod:default" cannot '
        f'{verb} resource "endpointslices" in API group "discovery.k8s.io" in the namespace "{namespace}"',
        group="discovery.k8s.io",
        kind="endpointslices",
    )


def too_old(version: str, oldest: int) -> dict[str, Any]:
    """Return what a watch is told whose version is forgotten."""
    return status(410, "Expired", f"too old resource version: {version} ({oldest})")
