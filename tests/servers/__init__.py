"""Real servers in processes of their own, which tests call, kill and freeze."""
