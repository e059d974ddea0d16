"""The program's parts: one ComponentResource a file, and the pure functions that they are configured by."""
