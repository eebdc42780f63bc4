"""The small web application that takes completion events."""
