"""Connections to endpoints that carry one request at a time (HTTP/1.1), blocking and on asyncio, and their pools."""
