"""Flower's settings: what it shows, and how much it may keep in memory."""

from config.settings import load_settings

address = "127.0.0.1"
port = load_settings().flower_port
# It shows, and does nothing else: without a password its API answers 401, so its buttons would only fail.
read_only = True
# Kept in memory at about 7 kB a task.
max_tasks = 20_000
max_workers = 200
purge_offline_workers = 300
persistent = False
inspect_timeout = 5000.0
auto_refresh = True
# No result: only enqueue has one, and the page of a task shows it.
tasks_columns = "name,state,kwargs,runtime,retries,exception,received,worker,uuid"
natural_time = False
