"""Every setting with its default, and how a YAML file becomes one checked config."""
