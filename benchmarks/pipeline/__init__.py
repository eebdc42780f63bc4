"""How fast recordings go the whole way, and what memory that takes."""
