"""Drafts for people to correct: who reads the pages, and which are worth a person's time first."""
