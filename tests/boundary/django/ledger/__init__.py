"""An app whose handlers write entries by the ORM."""
