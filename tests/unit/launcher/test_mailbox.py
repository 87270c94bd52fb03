"""Reports as files: whole, in order, none twice, whatever fails meanwhile."""

import json
import threading
import time
from io import StringIO
from pathlib import Path

from dagster_pipes import PipesMessage

from resources.launcher.mailbox import Mailbox, MailboxChannel, MailboxWriter, MessageFile


def message(number: int) -> PipesMessage:
    return PipesMessage(
        __dagster_pipes_version="0.1", method="log", params={"message": f"m{number}"}
    )


def texts(box: Mailbox | MessageFile) -> list[str]:
    return [each["params"]["message"] for _, each in box.new()]


def test_what_was_written_is_read_once_and_in_order(tmp_path: Path):
    writer = MailboxWriter()
    box = Mailbox(str(tmp_path / "box"))
    assert not texts(box)
    with writer.open({"url": str(tmp_path / "box")}) as channel:
        for number in range(5):
            channel.write_message(message(number))
    assert texts(box) == ["m0", "m1", "m2", "m3", "m4"]
    assert not texts(box)
    # Who comes later reads all of it.
    assert texts(Mailbox(str(tmp_path / "box"))) == ["m0", "m1", "m2", "m3", "m4"]


def test_attempts_are_told_apart_and_read_in_the_order_of_their_start(tmp_path: Path):
    url = str(tmp_path)
    first = MailboxChannel(url, interval=1)
    time.sleep(0.01)
    second = MailboxChannel(url, interval=1)
    second.upload_messages_chunk(StringIO(json.dumps(message(2))), 1)
    first.upload_messages_chunk(StringIO(json.dumps(message(1))), 1)
    found = list(Mailbox(url).new())
    assert [each["params"]["message"] for _, each in found] == ["m1", "m2"]
    assert found[0][0] != found[1][0]


def test_half_a_file_is_not_read(tmp_path: Path):
    folder = tmp_path / "attempt"
    folder.mkdir()
    (folder / "00000001.jsonl.part").write_text(json.dumps(message(1))[:20])
    assert not list(Mailbox(str(tmp_path)).new())


def test_a_place_that_can_not_be_written_to_for_a_while_costs_no_message(tmp_path: Path, capsys):
    # A file where the folder should be: for any user, root too, nothing can be written below it.
    blocked = tmp_path / "box"
    blocked.write_text("")
    channel = MailboxChannel(str(blocked), interval=1)
    writing = threading.Thread(
        target=channel.upload_messages_chunk, args=(StringIO(json.dumps(message(1))), 1)
    )
    writing.start()
    time.sleep(0.3)
    blocked.unlink()
    writing.join(30)
    assert texts(Mailbox(str(blocked))) == ["m1"]
    assert "reports can't be written" in capsys.readouterr().err


def test_a_file_of_messages_is_read_as_it_grows_and_half_a_line_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "messages"
    box = MessageFile(str(path))
    assert not texts(box)
    second = json.dumps(message(2))
    path.write_text(f"{json.dumps(message(1))}\n{second[:9]}")
    assert texts(box) == ["m1"]
    assert not texts(box)
    with path.open("a") as file:
        file.write(f"{second[9:]}\n{json.dumps(message(3))}\n")
    assert texts(box) == ["m2", "m3"]
    assert not texts(box)


def test_who_fails_at_a_message_has_those_after_it_at_the_next_look(tmp_path: Path):
    path = tmp_path / "messages"
    path.write_text("".join(f"{json.dumps(message(number))}\n" for number in (1, 2, 3)))
    box = MessageFile(str(path))
    next(box.new())
    assert texts(box) == ["m2", "m3"]
