"""Database: the transaction seam, which is who owns the transaction, and how it ends."""
