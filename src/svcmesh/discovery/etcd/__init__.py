"""etcd v3: watching a prefix, and being registered beneath it for as long as a lease is kept alive.

Spoken to by the JSON gateway that every etcd since 3.4 has on its client port, over httpx, and not by gRPC. Reasons:

- A registry is watched for as long as the process lives, and a mesh survives forks. grpcio does not while one of its
  asyncio channels is open: the child hangs or crashes as soon as it uses gRPC (docs/howto/processes.md). Who calls
  HTTP only would have that from us.
- Watches belong to whatever loop runs them, and end at once; a discovery starts no thread. grpc.aio keeps one.
- It works where grpcio is not installed, loads nothing heavy, and needs no generated code that protobuf's versions
  could quarrel with.

What gRPC would have given is made good for: many watches on one connection (`common`: beyond some watches one of the
whole registry), pings (a watch that is silent is checked by a question that needs a leader, see `prefix`), and
progress on request (the same question moves the revision on). What is lost: a cluster that knows its clients by
the common name of their certificates refuses them at its gateway, and wants user and password instead.
"""
