"""The global external Application Load Balancer: Envoy, configured from the declared chain."""
