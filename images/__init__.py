"""What VMs boot: bakes boot images, renews stock images, and pins containers, in a stack's file."""
