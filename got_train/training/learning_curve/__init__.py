"""How many pages are enough: trains on nested shares of the data, measures each, and fits a law."""
