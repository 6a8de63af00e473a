"""Label files of other programs, and how they become positions."""
