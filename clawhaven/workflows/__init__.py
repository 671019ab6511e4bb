"""The corridor: the only place where rooms meet each other and the outside."""
