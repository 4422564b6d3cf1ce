"""Settings: file, environment, defaults, and one clear line for every mistake."""

import os
import tomllib
from pathlib import Path

import pytest

from trustscale_server.bootstrap.checks import check_settings
from trustscale_server.bootstrap.settings import Settings, load_settings
from trustscale_server.bootstrap.sources import read_secret_files
from trustscale_server.cli.config import effective
from trustscale_server.platform.errors import ConfigError

COG = {"name": "mine", "kind": "cog", "url": "http://127.0.0.1:5000", "scale": 4}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for name in os.environ:
        if name.startswith("TRUSTSCALE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def toml(place):
    return lambda text: (place / "trustscale.toml").write_text(text, "utf-8", "surrogateescape")


def refused(**overrides):
    with pytest.raises(ConfigError) as caught:
        load_settings(**overrides)
    assert "\n" not in caught.value.detail
    assert caught.value.detail.endswith((".", "?"))
    return caught.value.detail


class TestSources:
    def test_precedence(self, toml, monkeypatch):
        toml("max_in_flight = 3\nmax_waiting = 3\njob_concurrency = 3")
        monkeypatch.setenv("TRUSTSCALE_MAX_WAITING", "4")
        monkeypatch.setenv("TRUSTSCALE_JOB_CONCURRENCY", "4")
        settings = load_settings(job_concurrency=5)
        counts = (settings.max_in_flight, settings.max_waiting, settings.job_concurrency)
        assert counts == (3, 4, 5)
        assert settings.data_dir.is_absolute()

    def test_workers_in_the_environment(self, toml, monkeypatch):
        toml('[[upscalers]]\nname = "x"\nkind = "embedded"')
        monkeypatch.setenv("TRUSTSCALE_WORKER_URLS", "http://a:1, b=http://b:1/,b=http://b:2")
        first, unnamed, named = load_settings().upscalers
        assert (first.name, unnamed.name, unnamed.urls) == ("x", "worker", ("http://a:1",))
        assert (named.kind, named.urls) == ("worker", ("http://b:1", "http://b:2"))
        monkeypatch.setenv("TRUSTSCALE_WORKER_URLS", "")
        assert [entry.name for entry in load_settings().upscalers] == ["x"]


class TestReferences:
    def test_they_are_replaced_everywhere(self, toml, monkeypatch):
        monkeypatch.setenv("PLACE", "there")
        monkeypatch.setenv("WORD", "pass")
        toml(
            'data_dir = "/data/${PLACE}"\nstore = "redis://:${WORD}@host/1"\n'
            'client_keys = ["${WORD}"]\n'
            '[[upscalers]]\nname = "${PLACE}-x4"\nkind = "embedded"\n'
        )
        settings = load_settings()
        assert str(settings.data_dir) == "/data/there"
        assert settings.store == "redis://:pass@host/1"
        assert settings.default == "there-x4"
        assert [key.get_secret_value() for key in settings.client_keys] == ["pass"]

    @pytest.mark.parametrize(
        "text",
        [
            *(
                f"{name} = {keys}"
                for name in ("client_keys", "admin_keys")
                for keys in ('["plain"]', '"plain"', '["${KEY}x"]', "[1]", '["${A}","b"]', "5")
            ),
            'store = "redis://:plain@host"',
            'queue = "rediss://user:plain@host:1/2"',
            'store = "redis://:plain/word@host"',
            'queue = "redis://:plain@word@host"',
            'store = "redis://host?password=plain"',
        ],
    )
    def test_plain_secrets_are_refused(self, toml, monkeypatch, text):
        """Keys and passwords may only be references, and what was written is not repeated."""
        monkeypatch.setenv("KEY", "k")
        toml(text)
        detail = refused()
        assert text.partition(" ")[0] in detail
        assert "plain" not in detail

    def test_keys_in_the_environment(self, toml, monkeypatch):
        for text, count in (("", 0), ("a", 1), ("a, b", 2)):
            monkeypatch.setenv("TRUSTSCALE_CLIENT_KEYS", text)
            assert len(load_settings().client_keys) == count
        for text in (",", "a,", "a, ,b"):
            monkeypatch.setenv("TRUSTSCALE_CLIENT_KEYS", text)
            assert "client_keys" in refused()
        monkeypatch.setenv("EMPTY", "")
        toml('admin_keys = ["${EMPTY}"]')
        assert "admin_keys" in refused()

    def test_keys_that_no_header_carries(self, monkeypatch):
        """A key that could never be recognised is refused and not repeated; white space is cut."""
        monkeypatch.setenv("TRUSTSCALE_ADMIN_KEYS", "schlüssel")
        line = refused()
        assert "letter that a header cannot carry" in line
        assert "schl" not in line
        monkeypatch.setenv("TRUSTSCALE_ADMIN_KEYS", "")
        settings = Settings(client_keys=["from-a-file\n"])
        assert [key.get_secret_value() for key in settings.client_keys] == ["from-a-file"]


def test_sizes_in_units(monkeypatch):
    """Bytes may be given as people write them."""
    monkeypatch.setenv("TRUSTSCALE_MAX_UPLOAD_BYTES", "32MB")
    settings = Settings(max_result_bytes="1.5GiB", max_in_flight_bytes=5)
    sizes = (settings.max_upload_bytes, settings.max_result_bytes, settings.max_in_flight_bytes)
    assert sizes == (32_000_000, 3 * 2**29, 5)


async def test_what_own_upscalers_replace():
    """Whoever names upscalers is told which shipped ones are gone, and how to have them again."""
    alone = Settings(upscalers=[{"name": "span-x4", "kind": "embedded", "model": "span-x4"}])
    (warning,) = await check_settings(alone)
    assert "realesr-x4 and realesr-x4-safe and auto are not offered" in warning
    _, entries = warning.split("add ")
    added = tomllib.loads(f"entries = [{entries}]")["entries"]
    for settings in (Settings(upscalers=[*alone.upscalers, *added]), Settings()):
        assert await check_settings(settings) == []


class TestMistakes:
    def test_all_in_the_file(self, toml, monkeypatch):
        references = 'data_dir = "${NOWHERE}"\nspool = "${ELSEWHERE}"'
        toml(f'client_keys = ["plain"]\nmax_waiting = -1\n{references}')
        detail = refused()
        words = ("client_keys", "NOWHERE is not", "ELSEWHERE", "max_waiting: ", "spool: there")
        assert all(word in detail for word in words), detail
        toml("= nonsense")
        assert "not valid TOML" in refused()
        monkeypatch.setenv("TRUSTSCALE_CONFIG", "missing.toml")
        assert "missing.toml" in refused()

    @pytest.mark.parametrize(
        ("overrides", "words"),
        [
            ({"max_in_flight": "many"}, "max_in_flight"),
            ({"request_timeout_s": float("inf")}, "request_timeout_s"),
            ({"log_level": "loud"}, "log_level"),
            ({"upscalers": []}, "upscalers"),
            (
                {"default_upscaler": "none"},
                "no upscaler 'none' for default_upscaler; there is auto, ",
            ),
            ({"max_upload_bytes": "much"}, "max_upload_bytes: could not parse"),
            ({"upscalers": COG}, "upscalers: each has an entry of its own: [[upscalers]]"),
            ({"admin_keys": ["ops:x"]}, "an admin key is shorter than 8 characters"),
            ({"upscalers": [{**COG, "name": "a b"}]}, "upscaler 'a b': name"),
            ({"upscalers": [COG, COG]}, "same name"),
            ({"max_in_fligth": 3}, "max_in_fligth: there is no such name; did you mean max_in_f"),
            ({"upscalers": [{**COG, "kind": "cogg"}]}, "'mine': there is no kind 'cogg'; did you"),
            ({"upscalers": [{**COG, "kind": "x"}]}, "there are embedded, supplied, worker"),
            ({"upscalers": [{**COG, "scale": "four"}]}, "'mine': scale: this must be a valid int"),
            ({"upscalers": [{**COG, "seed_feld": "s"}]}, "did you mean seed_field?"),
            ({"upscalers": [{"name": "mine", "kind": "cog", "scale": 4}]}, "url: this is missing."),
            (
                {"client_pixels_per_minute": 9, "max_input_pixels": 10},
                "smaller than max_input_pixels",
            ),
        ],
    )
    def test_in_the_words_of_who_made_them(self, overrides, words):
        """The upscaler is named, what was meant is offered, and no parser's jargon is left."""
        detail = refused(**overrides)
        assert words in detail
        assert not detail.endswith("?.")

    def test_misspelt_variables(self, monkeypatch):
        """They stop a start as misspelt names of a file do; what others read is none."""
        for name in (
            "TRUSTSCALE_CONFIG", "TRUSTSCALE_KEY", "TRUSTSCALE_URL", "TRUSTSCALE_PORT",
            "TRUSTSCALE_SERVICE_PORT_HTTP", "TRUSTSCALE_PORT_80_TCP_ADDR",
        ):  # fmt: skip
            monkeypatch.setenv(name, "")
        monkeypatch.setenv("TRUSTSCALE_TOKEN", "secret")
        load_settings(upscalers=[{**COG, "token_env": "TRUSTSCALE_TOKEN"}])
        monkeypatch.setenv("TRUSTSCALE_MAX_WAITINGS", "1")
        assert refused(upscalers=[{**COG, "token_env": "TRUSTSCALE_TOKEN"}]) == (
            "Wrong configuration: the environment variable TRUSTSCALE_MAX_WAITINGS: there is no "
            "such setting; did you mean max_waiting?"
        )

    @pytest.mark.parametrize("gone", ["refuse_unpromised", "job_drain_s", "robust"])
    def test_settings_of_earlier_builds(self, toml, monkeypatch, gone):
        """A name that is none any more stops the start, in the file and in the environment."""
        toml(f"{gone} = 1")
        assert f"{gone}: there is no such name" in refused()
        toml("")
        monkeypatch.setenv(f"TRUSTSCALE_{gone.upper()}", "1")
        assert f"TRUSTSCALE_{gone.upper()}: there is no such setting" in refused()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:word/word@host", "redis://***@host"),
        ("redis://:word@word@host/1", "redis://***@host/1"),
        ("redis://host?password=word&db=1", "redis://host?password=***&db=1"),
        ("redis://host:1/2", "redis://host:1/2"),
        ("memory://", "memory://"),
    ],
)
def test_passwords_of_any_letters(url, shown):
    """Whatever letters a password has that should have been encoded, none is shown."""
    assert effective(Settings(queue=url))["queue"] == shown


def test_secrets_in_files(place, monkeypatch):
    """What is no text, and no file, is told in one line that does not repeat it."""
    (place / "keys").write_text("a,b\n")
    environ = {"TRUSTSCALE_ADMIN_KEYS_FILE": str(place / "keys"), "TRUSTSCALE_ADMIN_KEYS": "c"}
    read_secret_files(environ)
    assert environ == {"TRUSTSCALE_ADMIN_KEYS": "a,b"}
    monkeypatch.setenv("TRUSTSCALE_STORE_FILE", str(place / "key"))
    for content in (b"\xff", b"a\0b"):  # no variable can hold it
        (place / "key").write_bytes(content)
        with pytest.raises(ConfigError, match="key: it is not text"):
            read_secret_files(os.environ)
    for name in ("TRUSTSCALE_STORE_FILE", "REDIS_PASSWORD_FILE"):
        with pytest.raises(ConfigError, match=f"{name}: cannot read /run/secrets/none: No such"):
            read_secret_files({name: "/run/secrets/none"})


def test_a_working_folder_that_may_not_be_read(monkeypatch):
    """A container with a foreign user and group says so, and what to do."""

    def refused(_):
        raise PermissionError

    monkeypatch.setattr(Path, "is_file", refused)
    with pytest.raises(
        ConfigError, match=r"may not read the working folder .* \(--user NUMBER:0\)"
    ):
        load_settings()
