"""Documents, queries and the index that answers them."""
