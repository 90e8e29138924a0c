"""A stand-in for the package that carries the default model."""
