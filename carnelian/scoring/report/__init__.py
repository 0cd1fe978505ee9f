"""Error rates to read: tables, plots, and one HTML file."""
