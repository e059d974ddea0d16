"""Compute Engine's control plane, simulated: instance groups, health checks, autoscaling and its REST API."""
