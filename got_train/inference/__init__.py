"""From pictures to answers: reading pages, writing answers, resuming jobs."""
