"""The checks that an agent makes itself: a GET, or a connection. What a gRPC check asks is left at the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


async def probe(definition: Mapping[str, Any], timeout: float) -> tuple[str, str]:
    """Return the status that a check finds, and what it has to say.

    2xx is passing, 429 warning, anything else critical, as with Consul.
    """
    try:
        async with asyncio.timeout(timeout):
            if definition.get("HTTP"):
                return await _get(definition["HTTP"])
            host, _, port = (definition.get("TCP") or definition.get("GRPC") or "").partition("/")[0].rpartition(":")
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
            return "passing", f"TCP connect {host}:{port}: Success"
    except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError) as error:
        return "critical", f"{type(error).__name__}: {error}"


async def _get(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        line = (await reader.readline()).decode("latin-1")
    finally:
        writer.close()
    status = int(line.split()[1]) if len(line.split()) > 1 else 0
    kind = "passing" if 200 <= status < 300 else "warning" if status == 429 else "critical"
    return kind, f"HTTP GET {url}: {line.strip()}"
