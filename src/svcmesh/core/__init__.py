"""The words every other room uses: endpoints, outcomes, deadlines, clocks and errors. No I/O, no logging."""
