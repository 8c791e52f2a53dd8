"""Calls of ``grpc.aio``: what they mean and how they are set up is decided in the files of the blocking calls."""
