"""Results kept on disk: records, the database file, hashed keys (of what `_inference.run` lists)."""
