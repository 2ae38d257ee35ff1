"""Checks, arrays and small helpers that every room may use."""
