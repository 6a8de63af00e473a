"""Names of the files in a run's folder, which training writes and reports read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


UNFINISHED = ".unfinished"  # a checkpoint is written here and renamed when it is complete


DELETING = ".deleting"


FINAL = "final"


BEST = "best"


RUN_FILE = "run.yaml"  # the run's config


ROWS_FILE = "rows.json"  # of every source


STATE_FILE = "trainer_state.json"  # paddlenlp's


# of the run's folder, beside its checkpoints
AUDIT_FILE = "audit.json"


MEASUREMENTS = "measurements.jsonl"


SKILLS, BEFORE, AFTER = "skills", "before", "after"


SKILLS_FILE = "skills.json"


CURVES = "visualdl"


EARLY_STOP = "stopped"  # in the log that paddlenlp keeps: why the run was ended


MEMORY = "memory_gb"  # what the process's peak is called there


LOSS = "loss"


VALIDATION_PREFIX = "validation_"  # so begins what stays in the run's log


VALIDATION_LOSS = f"{VALIDATION_PREFIX}{LOSS}"
