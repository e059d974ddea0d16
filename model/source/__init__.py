"""Where models and photos come from."""
