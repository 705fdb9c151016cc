"""headcount.client against a running service, and against one that is not always there."""
