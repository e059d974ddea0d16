"""The build: its stages in order, what it tells while it works, and what it leaves."""
