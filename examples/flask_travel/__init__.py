"""A travel agent in Flask."""
