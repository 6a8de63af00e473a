"""What a run costs: operations and memory."""
