"""Sentinels: times that never come, of deliveries that wait for something else than a time.

They are due again when that has happened.
"""

#: The year in which a delivery is due that waits for another one; that is being forwarded to its
#: consumer's own database; and that lies there by now.
NEVER_YEAR, FORWARDING_YEAR, FORWARDED_YEAR = 9000, 9001, 9002

NEVER = f"timestamptz '{NEVER_YEAR}-01-01 00:00:00+00'"
FORWARDING = f"timestamptz '{FORWARDING_YEAR}-01-01 00:00:00+00'"
FORWARDED = f"timestamptz '{FORWARDED_YEAR}-01-01 00:00:00+00'"

#: The kind of what a context's own database sends home.
PARCEL = "saga.parcel"
