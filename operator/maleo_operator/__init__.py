"""The Maleo operator: one placement cycle that decides, and a thin shell that reads and writes."""
