"""A small Django shop whose checkout is a saga."""
