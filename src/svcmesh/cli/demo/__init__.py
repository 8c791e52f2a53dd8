"""`svcmesh demo`: real servers in own processes, killed, frozen and disturbed, while a client goes on calling them.

The parts know little of each other: `acts` says what happens when, `stage` does it to `fleet` (processes) and mesh,
`load` makes the calls, `record` remembers them, `screen`, `summary` and `picture` show what was remembered.
"""
