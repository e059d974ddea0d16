"""The command line of a person: predict, load, status, wait, doctor, outputs.

What to look at comes from the stack's outputs; what it is doing comes from Google's REST APIs, at whatever addresses
Google's own endpoint variables name.
"""
