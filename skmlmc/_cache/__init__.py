"""Results kept on disk: records, the database file, hashed keys (_inference.run says of what)."""
