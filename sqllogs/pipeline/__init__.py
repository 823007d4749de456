"""Buffer captured queries, resolve them and deliver them, in the writer's thread."""
