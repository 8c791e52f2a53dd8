"""Active health checks: how they are written down, what they find, and when a finding changes anything."""
