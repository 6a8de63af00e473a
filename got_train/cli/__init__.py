"""The commands: arguments in, messages and exit codes out. The work is done elsewhere."""
