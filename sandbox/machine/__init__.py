"""Virtual machines as process groups: metadata server, startup script and the commands that a VM's image would have."""
