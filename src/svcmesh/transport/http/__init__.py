"""Requests of httpx: what one means as a call here, the way to a single endpoint in `connection` and `http2`."""
