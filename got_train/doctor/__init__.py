"""`got doctor`: what this machine is, and whether everything computes here what it should."""
