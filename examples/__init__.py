"""Programs that use the framework the way a team would.

- `travel`: a travel agent books trips, or undoes them, on the flights of a real day.
"""
