"""One self-contained HTML file about a run: verdict, skills, curves, samples, data, audit, settings."""
