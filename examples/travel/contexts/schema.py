"""The schema that all contexts of the travel agent write their tables in."""

#: A name to be translated: the real one is in the engine's `schema_translate_map`.
SCHEMA = "travel"
