"""The message store: rows in, rows out."""
