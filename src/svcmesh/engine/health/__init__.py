"""Active health checks of the endpoints of a service: when they are asked, and what comes of the answers."""
