"""What happens to a recording, step by step; combines ledger, limiter, API adapter and search."""
