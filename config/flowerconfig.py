"""Flower's settings: where it shows what to whom, and how much it may keep in memory."""

from flower.views.monitor import Metrics
from tornado.web import authenticated

from config.setting_types import SettingsProblem
from config.settings import load_settings
from config.urls import is_loopback_host

_settings = load_settings()

address = _settings.flower_host
port = _settings.flower_port
read_only = _settings.flower_read_only
if _settings.flower_basic_auth:
    basic_auth = _settings.flower_basic_auth.get_secret_value().split(",")
elif not is_loopback_host(address):
    raise SettingsProblem(
        f"RETROSCRIBE_FLOWER_HOST is {address}, where others can see the Flower pages: set "
        "RETROSCRIBE_FLOWER_BASIC_AUTH to user:password, or leave the host at 127.0.0.1."
    )
elif not read_only:
    raise SettingsProblem(
        "RETROSCRIBE_FLOWER_READ_ONLY is false and there is no password: set RETROSCRIBE_FLOWER_BASIC_AUTH to "
        "user:password, for without one Flower lets nobody do anything."
    )
# Kept in memory at about 7 kB a task.
max_tasks = 20_000
max_workers = 200
purge_offline_workers = 300
persistent = False
inspect_timeout = 5000.0
auto_refresh = True
tasks_columns = "name,state,kwargs,result,runtime,retries,exception,received,worker,uuid"
natural_time = False

# Flower asks for the password on its pages, but not for its figures. It reads this file once, so wrap them once.
if not getattr(Metrics.get, "__wrapped__", None):
    Metrics.get = authenticated(Metrics.get)
