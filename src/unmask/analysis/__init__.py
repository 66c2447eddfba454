"""Analysis: histories and frames as text, tables and pictures."""
