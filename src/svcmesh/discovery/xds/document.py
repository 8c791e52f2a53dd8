"""The file that Envoy's file-based EDS reads: a DiscoveryResponse in JSON or YAML, with endpoints by cluster.

What such a file says is Envoy's to define, so fields that svcmesh has no use for are skipped, as in a response on a
stream. What it has use for must be right: the file is somebody's, who is told.
"""

from __future__ import annotations

from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.documents import parse_document, text_of
from svcmesh.discovery.file import FileDiscovery, path_of
from svcmesh.discovery.uri_parts import Surroundings, Uri
from svcmesh.discovery.xds.assignment import Assignment
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.overload import faults_for
from svcmesh.discovery.xds.plain import decode_plain, parse_plain


def assignments_in(content: bytes, path: str) -> dict[str, Snapshot]:
    """Return the endpoints in a file's content, and what is to be dropped, by cluster.

    Args:
        content: of the file. path: its name, for errors.

    Raises:
        DiscoveryError: the first mistake, with the cluster.
    """
    text = text_of(content, path)
    is_json = path.endswith(".json")
    document = parse_plain(Kind.ENDPOINTS, text, path) if is_json else parse_document(text, path, is_json=False)
    listed = document.get("resources") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise DiscoveryError(f"{path} is no DiscoveryResponse: that is an object with a list called 'resources'")
    found: dict[str, Snapshot] = {}
    for number, one in enumerate(listed):
        assignment = _assignment(one, f"{path}, resources[{number}]")
        if assignment.name in found:
            raise DiscoveryError(f"{path}, resources[{number}]: cluster {assignment.name!r} stands twice in it")
        faults = faults_for(assignment.drop) if assignment.endpoints else ()
        policy = {"faults": faults} if faults else None
        found[assignment.name] = Snapshot(assignment.endpoints, policy=policy, authoritative=True)
    return found


def _assignment(one: object, where: str) -> Assignment:
    decoded = decode_plain(Kind.ENDPOINTS, one)
    assignment = decoded.resource
    if not isinstance(assignment, Assignment):
        raise DiscoveryError(f"{where}{f' ({decoded.name!r})' if decoded.name else ''}: {decoded.why}")
    if assignment.left_out:
        raise DiscoveryError(f"{where} ({assignment.name!r}): {assignment.left_out[0]}")
    return assignment


def open_document(uri: Uri, surroundings: Surroundings) -> FileDiscovery:
    """Open an ``xds+file://`` URI; the file is not read yet.

    Raises:
        ConfigError: no absolute path, or a query.
    """
    return FileDiscovery(path_of(uri), clock=surroundings.clock, emit=surroundings.emit, parse=assignments_in)
