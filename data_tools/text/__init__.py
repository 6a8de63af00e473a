"""Where the words, formulas and notes on the pages come from, and how they are counted."""
