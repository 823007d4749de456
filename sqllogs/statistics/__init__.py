"""Count every call, in a way that outlives the ring: by minute, hour and day, for each statement and place.

Fed by `sqllogs.ring` in the writer's thread, in the same transaction as the
records; read by `sqllogs.queries.statistics`.
"""
