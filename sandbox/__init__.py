"""Google Cloud on one machine, for the resource types that a stack like this one uses.

It knows Google Cloud and never this stack's names: what it does follows from the resources that were declared.
"""
