"""The data engines: each draws pictures whose text is known, and can be run by itself."""
