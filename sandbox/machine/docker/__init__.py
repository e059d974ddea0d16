"""What `docker` means in a VM here: images backed by environments of this repository, containers without namespaces.

A container shares the machine's file system and network, so a volume must be mounted at its own path and the network
must be the host's; limits and capabilities change nothing. What it has of its own is its environment, its processes
and their end.
"""
