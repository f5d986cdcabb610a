"""Peers: what the same work costs elsewhere, each tuned as its own documentation advises."""
