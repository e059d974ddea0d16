"""Stand-ins for the commands of a VM's image that would act on a machine.

Each accepts what the real command accepts as far as it is modelled, does what matters to a script, and refuses the rest
by name. They run on the bare interpreter inside a VM (sandbox.machine.entry) and use the standard library alone.
"""
