"""Whether a converted graph still answers as the original does, in numbers."""
