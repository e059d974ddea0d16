"""What a model artifact is: its key, its manifest and signature, and the preprocessing that they describe."""
