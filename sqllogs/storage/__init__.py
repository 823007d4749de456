"""Store the newest N records, the statement texts and the statistics; in the writer's thread."""
