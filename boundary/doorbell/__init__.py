"""Doorbells: how workers learn that an inbox has deliveries."""
