"""Count every call by minute, hour and day, beyond the ring's end."""
