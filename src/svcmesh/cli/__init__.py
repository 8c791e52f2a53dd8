"""The command: what `svcmesh …` and `python -m svcmesh` run. Nothing imports it, and the library does not need it."""
