"""Choices and files: a wrong word is answered by the right one, a file that is not there by its name."""

import json
import os
import signal

import pytest

from lkm_kit.errors import KitError, Terminated, ending_as_ctrl_c, one_of
from lkm_kit.files import Busy, locked, read_json, sha256, write_json


@pytest.mark.parametrize(
    ("value", "choices", "said"),
    [
        ("tabel3", {"table2": 0, "table3": 0}, "did you mean 'table3'? choose one of table2, table3"),
        ("qos", ["slurm_qos", "slurm_time"], "did you mean 'slurm_qos'? choose"),
        ("zzz", ["zoh", "euler"], "-> choose one of zoh, euler"),
        (4, [3, 5], "there is no number 4\n  -> choose one of 3, 5"),
        (["zoh"], {"zoh": 0}, "there is no number ['zoh']"),
    ],
)
def test_a_wrong_word_is_answered_by_the_closest_and_by_all(value, choices, said):
    with pytest.raises(KitError) as error:
        one_of(value, choices, "number")
    assert said in str(error.value)


def test_a_right_word_comes_back_and_the_texts_can_be_given():
    assert one_of("zoh", ("zoh", "euler"), "rule") == "zoh"
    with pytest.raises(KitError, match=r"^it takes no 'pud'\n  -> did you mean 'pad'\? see describe\(\)$"):
        one_of("pud", ["pad"], "argument", message="it takes no 'pud'", remedy="see describe()")


def test_bytes_of_a_name_that_are_no_utf8_come_back_from_json(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {"data": name, "é": 1})
    assert read_json(tmp_path / "a.json") == {"data": name, "é": 1}
    (tmp_path / "deep.json").write_text('{"a": ' + "[" * 100_000)
    with pytest.raises(KitError, match="nested too deeply"):
        read_json(tmp_path / "deep.json", remedy="mend it")


def test_a_json_file_that_is_missing_damaged_or_something_else_is_named(tmp_path):
    (tmp_path / "half.json").write_text('{"a": ')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "good.json").write_text(json.dumps({"a": 1}))
    assert read_json(tmp_path / "good.json") == {"a": 1}
    for name, said in (
        ("absent", "no table: no file"),
        ("half", "as a table"),
        ("list", "holds a list"),
        ("binary", "as a table"),
    ):
        with pytest.raises(KitError, match=said) as error:
            read_json(tmp_path / f"{name}.json", "table", remedy="write it again")
        assert f"{name}.json" in str(error.value) and error.value.remedy == "write it again"
    with pytest.raises(OSError, match="absent"):
        sha256(tmp_path / "absent")


def test_a_lock_that_is_held_is_said_at_once_or_after_waiting(tmp_path, capsys):
    with locked(tmp_path / "sub" / "x.lock", "a test"):
        with (
            pytest.raises(Busy, match="is busy with another test"),
            locked(tmp_path / "sub" / "x.lock", "another test", wait_s=0),
        ):
            pass
        assert capsys.readouterr().err == ""
        with pytest.raises(Busy, match="for 0 s"), locked(tmp_path / "sub" / "x.lock", "a test", wait_s=0.1):
            pass
        assert "waiting" in capsys.readouterr().err
    with locked(tmp_path / "sub" / "x.lock", "a test", wait_s=0):
        pass


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system knows no SIGHUP")
def test_a_closed_terminal_ends_the_work_as_sigterm_does_once_and_nohup_holds():
    before, cleaned = signal.signal(signal.SIGHUP, signal.SIG_DFL), []  # these tests may run under nohup, too
    try:
        with pytest.raises(Terminated), ending_as_ctrl_c():
            try:
                signal.raise_signal(signal.SIGHUP)
            finally:
                signal.raise_signal(signal.SIGHUP)  # the shell's, after the system's
                cleaned.append(True)
        assert cleaned and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does
        with ending_as_ctrl_c():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
