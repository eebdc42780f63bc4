"""How much of an API's rate limit is used, and how many 429s that costs: ours beside the usual ways."""
