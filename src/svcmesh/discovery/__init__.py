"""Where endpoints come from, and where a process announces itself: one file per backend."""
