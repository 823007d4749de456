"""Keep the newest N records, the statement texts and the statistics in the store."""
