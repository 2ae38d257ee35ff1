"""Model files: where they are, whether they are sound and still the same, loaded once."""
