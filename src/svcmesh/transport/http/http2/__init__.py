"""Connections that several requests share (HTTP/2), blocking and on asyncio, and their pools."""
