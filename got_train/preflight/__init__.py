"""The check before a run: every row looked at, what was found, what the run will take, and a verdict."""
