"""What runs on a serving VM: supervisor, gateway, Triton's model repository, GPU agent."""
