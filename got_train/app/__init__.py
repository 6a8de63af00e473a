"""A local web page to try checkpoints on: python -m got_train.app. Fetches nothing from elsewhere."""
