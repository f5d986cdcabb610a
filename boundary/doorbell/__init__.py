"""Doorbells: how workers are told that an inbox has deliveries."""
