"""Room: what we tell people, each message exactly one row."""
