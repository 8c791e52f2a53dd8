"""Calls of gRPC: blocking here, asyncio in `aio`; a mesh channel is many stock channels, one for each endpoint."""
