"""ROOM: prices, usage, limits; a call is opened before it is forwarded and closed before it is acknowledged."""
