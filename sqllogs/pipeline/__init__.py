"""Buffer captured queries in the caller's thread; resolve and deliver them in the writer's thread."""
