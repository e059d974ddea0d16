"""Who may do what: roles, the policy that the declared bindings make, and access tokens."""
