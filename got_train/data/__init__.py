"""Records: what they are, where they are read from and in which order."""
