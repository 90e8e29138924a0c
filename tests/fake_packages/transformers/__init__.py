"""A stand-in for transformers, which labelaudit tells to be quiet."""
