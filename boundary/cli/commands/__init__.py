"""The commands of `saga`, one module a group."""
