"""The SQL database that holds every recording's state and history: the only truth."""
