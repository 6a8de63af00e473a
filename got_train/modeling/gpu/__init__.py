"""What a GPU runs otherwise than the plain model, put on from outside: attention without all scores."""
