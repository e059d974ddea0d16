"""Addresses of instances and load balancers, and the firewall between them."""
