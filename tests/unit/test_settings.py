"""Settings: what is refused and in which words, what is derived, and what is never shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.setting_types import SettingsProblem
from config.settings import SOCKET_PATH_BYTES, Settings, load_settings
from config.urls import kombu_url
from tests.support.command import bare_environment
from workers.errors import LedgerError
from workers.ledger.engine import refuse_network_file_system

PASSWORD = "hunter2-is-secret"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting but the test's own, and no `.env`."""
    for name in list(os.environ):
        if name.startswith(("RETROSCRIBE_", "GENESYS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def problem(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsProblem) as refused:
        load_settings()
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RETROSCRIBE_SUBMIT_LIMIT", "fast", "must be a valid number"),
        ("RETROSCRIBE_SUBMIT_LIMIT", "0", "must be greater than 0"),
        ("RETROSCRIBE_LIMIT_CEILING", "1.1", "must be less than or equal to 1"),
        ("RETROSCRIBE_LIMIT_BUCKETS", "mixed", "must be 'separate' or 'shared'"),
        ("RETROSCRIBE_RECEIVER_PORT", "0", "must be greater than or equal to 1"),
        ("RETROSCRIBE_RECEIVER_PORT", "http", "must be a valid integer"),
        ("RETROSCRIBE_RECEIVER_MAX_BYTES", "10", "must be greater than or equal to 1024"),
        ("RETROSCRIBE_REDIS_URL", "http://cache", "must begin with redis://, rediss://, unix://"),
        ("RETROSCRIBE_BROKER_URL", "sqs://broker", "must begin with redis://, rediss://, unix://, amqp://, amqps://;"),
        ("RETROSCRIBE_BROKER_URL", "amqp://", "must be one URL, amqp://user:password@host:5672/vhost"),
        ("RETROSCRIBE_BROKER_URL", "amqp://one;amqp://two", "must be one URL"),
        ("RETROSCRIBE_BROKER_URL", "amqp://broker:amqp", "must be one URL"),
        ("RETROSCRIBE_BROKER_URL", "amqp://broker/vhost?heartbeat=5", "must be one URL"),
        ("RETROSCRIBE_DATABASE_URL", "mysql://db", "must begin with sqlite://, postgresql+psycopg://, postgresql://;"),
        ("RETROSCRIBE_PUBLIC_URL", "http://calls.example.com", "must be https unless its host is loopback"),
        ("RETROSCRIBE_PUBLIC_URL", "calls.example.com", "must be an http or https URL"),
        ("RETROSCRIBE_SEARCH_URL", "opensearch:9200", "must begin with sqlite://, https://, http://"),
        ("RETROSCRIBE_SEARCH_URL", "http://search.internal:9200", "must be https unless its host is loopback"),
        ("RETROSCRIBE_SEARCH_URL", "https://search.internal:9200?x=1", "must end before ?"),
        ("RETROSCRIBE_SEARCH_INDEX", "Calls", "should match pattern"),
        ("RETROSCRIBE_LANGUAGES", " , ", "name at least one BCP 47 tag"),
        ("RETROSCRIBE_SUBMIT_LEASE_SECONDS", "10", "must be greater than or equal to 30"),
        ("RETROSCRIBE_LOG_FORMAT", "xml", "must be 'console' or 'json'"),
        ("RETROSCRIBE_ALIVE_FILE", "/no/such/folder/alive", "must be in a folder that there is"),
        ("GENESYS_BASE_URL", "api.mypurecloud.com", "must be an http or https URL"),
        ("GENESYS_TOKEN_URL", "ftp://login", "must be an http or https URL"),
    ],
)
def test_given_a_wrong_value_then_one_sentence_names_variable_value_and_next_step(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    sentence = problem(monkeypatch, **{name: value})

    assert sentence.startswith(f"{name} (it is {value!r}): ")
    assert says in sentence
    assert sentence.endswith("correct it in the environment or .env.")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETROSCRIBE_WEBHOOK_SECRETS", f"{'a' * 16},{PASSWORD[:12]}"),
        ("RETROSCRIBE_REDIS_URL", f"http://user:{PASSWORD}@cache"),
        ("RETROSCRIBE_BROKER_URL", f"amqp://user:{PASSWORD}@broker?ssl=no"),
        ("RETROSCRIBE_BROKER_URL", f"amqp://user:1/{PASSWORD}@broker"),
        ("RETROSCRIBE_BROKER_URL", f"amqp://user:{PASSWORD}/with@signs@broker"),
        ("RETROSCRIBE_DATABASE_URL", f"mysql://user:{PASSWORD}@db"),
        ("RETROSCRIBE_DATABASE_URL", f"mysql://db/calls?user=me&password={PASSWORD}"),
        ("RETROSCRIBE_PUBLIC_URL", f"http://user:{PASSWORD}@calls.example.com"),
        ("RETROSCRIBE_SEARCH_URL", f"https://user:{PASSWORD}@search.internal:9200"),
        ("RETROSCRIBE_SEARCH_PASSWORD", PASSWORD),
        ("GENESYS_BASE_URL", f"ftp://user:{PASSWORD}@api"),
    ],
)
def test_given_a_wrong_value_with_a_secret_in_it_then_the_sentence_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    sentence = problem(monkeypatch, **{name: value})

    assert name in sentence
    assert PASSWORD[:12] not in sentence


@pytest.mark.parametrize("missing", ["GENESYS_CLIENT_ID", "GENESYS_CLIENT_SECRET"])
def test_given_a_missing_credential_then_only_asking_for_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name, value in {"GENESYS_CLIENT_ID": "an-id", "GENESYS_CLIENT_SECRET": PASSWORD}.items():
        if name != missing:
            monkeypatch.setenv(name, value)
    settings = load_settings()

    with pytest.raises(SettingsProblem, match=f"^{missing} is not set: ") as refused:
        settings.genesys.credentials()

    assert PASSWORD not in str(refused.value) + repr(settings)


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("redis://host:6380/2", "redis://host:6380/2"),
        ("rediss://user:word@host/0", "rediss://user:word@host/0"),
        ("unix:///run/valkey.sock", "redis+socket:///run/valkey.sock"),
        ("unix:///run/valkey.sock?db=3", "redis+socket:///run/valkey.sock?virtual_host=3"),
        (
            "unix:///run/valkey.sock?db=3&password=a",
            "redis+socket:///run/valkey.sock?virtual_host=3&password=a",
        ),
    ],
)
def test_given_a_url_of_redis_then_kombus_form_of_it_is_derived(url: str, form: str) -> None:
    assert kombu_url(url) == form


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_given_a_url_of_postgresql_then_it_names_the_driver_and_the_ledger_may_be_shared(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("RETROSCRIBE_DATABASE_URL", f"{scheme}://user:word@db:5433/calls?sslmode=require")

    settings = load_settings()

    assert settings.effective_database_url == "postgresql+psycopg://user:word@db:5433/calls?sslmode=require"
    assert settings.shared_ledger
    assert not Settings(database_url="sqlite:////srv/postgresql.sqlite3").shared_ledger


class TestSocket:
    def test_given_a_short_home_then_the_socket_is_in_it(self) -> None:
        settings = Settings(home=Path("/srv/retroscribe"))

        assert settings.socket_path == Path("/srv/retroscribe/valkey.sock")
        assert settings.effective_redis_url == "unix:///srv/retroscribe/valkey.sock"

    @pytest.mark.parametrize("sign", ["x", "é"], ids=["ascii", "two bytes a sign"])
    def test_given_a_home_too_long_for_a_socket_then_it_is_in_the_temporary_folder(self, sign: str) -> None:
        fits = Settings(home=Path("/" + "x" * (SOCKET_PATH_BYTES - len("//valkey.sock"))))
        long = Settings(home=Path("/" + sign * 90))
        other = Settings(home=Path("/" + sign * 91))

        assert fits.socket_path.parent == fits.home
        assert long.socket_path.parent != long.home
        assert len(os.fsencode(long.socket_path)) <= SOCKET_PATH_BYTES
        assert len({long.socket_path, other.socket_path}) == 2


class TestWebhookSecret:
    def test_given_secrets_then_the_first_signs_and_none_is_made(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("RETROSCRIBE_WEBHOOK_SECRETS", f" {'n' * 16} , {'o' * 16},")

        assert load_settings().signing_secrets == (b"n" * 16, b"o" * 16)
        assert not (tmp_path / ".retroscribe").exists()

    def test_given_a_shared_ledger_and_no_secrets_then_only_asking_for_them_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("RETROSCRIBE_DATABASE_URL", f"postgresql://user:{PASSWORD}@db/calls")
        settings = load_settings()

        with pytest.raises(SettingsProblem, match=r"^RETROSCRIBE_WEBHOOK_SECRETS is not set: ") as refused:
            _ = settings.signing_secrets

        assert PASSWORD not in str(refused.value)
        assert not (tmp_path / ".retroscribe").exists()

    def test_given_processes_that_race_then_all_get_the_one_secret_that_only_its_owner_reads(
        self, tmp_path: Path
    ) -> None:
        code = "from config.settings import load_settings; print(load_settings().signing_secrets[0].decode())"
        environment = bare_environment(RETROSCRIBE_HOME=str(tmp_path / "home"))

        racing = [
            subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        secrets = {process.communicate(timeout=60)[0].strip() for process in racing}

        (secret,) = secrets
        assert len(secret) == 64
        (kept,) = (tmp_path / "home").iterdir()
        assert (kept.read_text(), kept.stat().st_mode & 0o777) == (secret, 0o600)


class TestNetworkFileSystem:
    @pytest.fixture
    def mounts(self, tmp_path: Path) -> Path:
        path = tmp_path / "mounts"
        path.write_text(
            "/dev/sda1 / ext4 rw 0 0\n"
            "server:/home /mnt/home nfs4 rw 0 0\n"
            "/dev/sdb1 /mnt/home/disk xfs rw 0 0\n"
            "//box/share /mnt/two\\040words cifs rw 0 0\n"
        )
        return path

    @pytest.mark.parametrize(
        ("folder", "kind"), [("/mnt/home", "nfs4"), ("/mnt/home/me/.retroscribe", "nfs4"), ("/mnt/two words/x", "cifs")]
    )
    def test_given_a_folder_on_one_then_it_is_refused_with_the_next_step(
        self, mounts: Path, folder: str, kind: str
    ) -> None:
        with pytest.raises(LedgerError) as refused:
            refuse_network_file_system(Path(folder), mounts)

        assert folder in str(refused.value)
        assert f"({kind})" in str(refused.value)
        assert "RETROSCRIBE_HOME" in str(refused.value)

    @pytest.mark.parametrize("folder", ["/srv", "/mnt/home/disk/data", "/mnt/homeless", "/"])
    def test_given_a_folder_on_a_local_disk_then_it_is_taken(self, mounts: Path, folder: str) -> None:
        refuse_network_file_system(Path(folder), mounts)

    def test_given_a_system_that_does_not_tell_its_mounts_then_the_folder_is_taken(self, tmp_path: Path) -> None:
        refuse_network_file_system(tmp_path, tmp_path / "nothing")
