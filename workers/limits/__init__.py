"""Leave to call the API, shared by the whole fleet."""
