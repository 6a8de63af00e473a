"""A local web page to try checkpoints on: got app. Fetches nothing from elsewhere."""
