"""Results kept on disk: records, the database file, keys."""
