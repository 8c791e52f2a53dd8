"""The policies: frozen configurations, and state machines over `now` that never wait and know no transport."""
