"""Data engines: commands that render or read pages and write records; nothing here knows the model."""
