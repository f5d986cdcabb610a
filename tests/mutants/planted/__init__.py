"""The plants, by what they are mistakes in.

To add one: a sentence, a few lines of code, and the test that must fail of it.
"""
