"""The transaction seam: whoever owns the transaction, and how it ends."""
