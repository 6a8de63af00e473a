"""One self-contained HTML file about an evaluation: numbers, groups, confusions, samples with pictures."""
