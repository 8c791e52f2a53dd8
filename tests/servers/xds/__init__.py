"""A control plane for tests, in a process of its own, and clients that are not ours to judge it by."""
