"""Contexts with a database of their own."""
