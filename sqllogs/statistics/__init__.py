"""Count every call by minute, hour and day, for longer than the ring keeps records."""
