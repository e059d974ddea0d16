"""The `gcp` provider as the engine knows it, deploying to this machine.

`types/` holds what is known of each resource type's properties; `kinds/` what a type does beyond that; the rest speaks
the engine's protocol. A type, property, value or call that is not modelled is an error that names it.
"""
