"""Commands of `python -m model`, each with its options; `add` puts one into the command line."""
