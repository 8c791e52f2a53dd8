"""Consul: watching services by blocking queries, and being registered with an agent."""
