"""The scores, one file each: plain functions of an answer and its reference."""
