"""Names of the files in a run's folder, which training writes and reports read."""

from __future__ import annotations

# folders
UNFINISHED = ".unfinished"  # a checkpoint is written here and renamed when it is complete
DELETING = ".deleting"
FINAL = "final"
BEST = "best"
CURVES = "visualdl"
SKILLS, BEFORE, AFTER = "skills", "before", "after"

# of a checkpoint
RUN_FILE = "run.yaml"  # the run's config
RECORD_FILE = "checkpoint.json"  # what belongs to the checkpoint
STATE_FILE = "trainer_state.json"  # paddlenlp's
BEST_FILE = "best.json"

# of the run
AUDIT_FILE = "audit.json"
TRACKERS_FILE = "trackers.txt"  # the name that trackers know the run by
MEASUREMENTS = "measurements.jsonl"
SKILLS_FILE = "skills.json"

# names in the log that paddlenlp keeps
EARLY_STOP = "stopped"  # why the run was ended
MEMORY = "memory_gb"  # the process's peak
LOSS = "loss"
VALIDATION_PREFIX = "validation_"  # so begins what stays in the run's log
VALIDATION_LOSS = f"{VALIDATION_PREFIX}{LOSS}"
