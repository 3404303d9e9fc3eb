"""What the agent answers locally: the status socket."""
