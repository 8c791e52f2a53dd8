"""DNS: names that are asked for again before they are out of date, and at once when a host refuses connections."""
