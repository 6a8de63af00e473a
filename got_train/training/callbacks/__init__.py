"""What a run does beside its steps: validation, averages, progress, audit."""
