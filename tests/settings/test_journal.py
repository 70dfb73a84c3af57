"""`[journal]` and `--journal`: where frames are kept, and what listeners may promise then."""

from __future__ import annotations

ACKING = '[listener.a]\ntype = "acking"\nendpoints = ["tcp:1"]\n'


def test_without_the_table_frames_are_in_memory(settings_of):
    assert settings_of(ACKING).journal is None


def test_defaults_and_values(settings_of, tmp_path):
    journal = settings_of('[journal]\npath = "/var/lib/es"\n').journal
    assert (journal.path, str(journal.max_bytes), str(journal.retention)) == ("/var/lib/es", "2 GiB", "1 d")
    assert (str(journal.dead_letters), str(journal.key_window), journal.max_keys) == ("256 MiB", "1 d", 100_000)
    text = (
        '[journal]\npath = "/x"\nmax_bytes = "1 GiB"\nretention = "1 h"\ndead_letters = "1 MiB"\n'
        'key_window = "5 min"\nmax_keys = 7\n'
    )
    journal = settings_of(text).journal
    assert (journal.max_bytes, journal.retention, journal.dead_letters) == (1 << 30, 3600, 1 << 20)
    assert (journal.key_window, journal.max_keys) == (300, 7)


def test_a_relative_path_is_looked_for_where_the_server_was_started(settings_of, tmp_path):
    assert settings_of('[journal]\npath = "data/journal"\n').journal.path == str(tmp_path / "data/journal")
    assert settings_of(journal="data").journal.path == str(tmp_path / "data")


def test_the_command_line_takes_pairs_too(settings_of):
    journal = settings_of(journal='/x max_bytes="1 GiB" retention="2 h"').journal
    assert (journal.path, journal.max_bytes, journal.retention) == ("/x", 1 << 30, 7200)


def test_everything_that_is_wrong_is_named(problems_of, tmp_path):
    (tmp_path / "file").write_text("")
    assert problems_of('[journal]\nmax_bytes = "1 KiB"\nretension = "1 h"\n') == [
        "site.toml: journal.retension: unknown key; did you mean `retention`?",
        "site.toml: journal.max_bytes: 1 KiB is too small; at least 1 MiB",
        "site.toml: journal.path: is missing",
    ]
    assert problems_of('[journal]\npath = "file"\n') == ["site.toml: journal.path: file is not a folder"]
    assert problems_of('[journal]\npath = "a"\n', journal="b") == ["--journal: is set already in site.toml"]


def test_with_a_journal_listeners_acknowledge_what_is_durable(settings_of, problems_of):
    journal = '[journal]\npath = "j"\n'
    assert settings_of(journal + ACKING).listeners["a"].ack == "durable"
    assert settings_of(journal + ACKING + 'ack = "delivered"\n').listeners["a"].ack == "delivered"
    assert settings_of(journal + ACKING + 'ack = "durable"\n').listeners["a"].ack == "durable"
    assert settings_of(ACKING).listeners["a"].ack == "delivered"


def test_durable_is_no_second_problem_where_the_journal_is_wrong(problems_of):
    problems = problems_of('[journal]\npath = ""\n' + ACKING + 'ack = "durable"\n')
    assert len(problems) == 1
    assert problems[0].startswith("site.toml: journal.path: ")
