"""Planted bugs: the tests are tested.

Each plant is a mistake that a competent engineer could make, and names the test that is to fail
because of it.  `python -m tests.mutants` makes them one by one in a copy of the tree; a plant that
survives is a promise that no test keeps.
"""
