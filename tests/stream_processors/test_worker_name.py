"""The name of a worker: held on its host, and free of namesakes on other hosts."""

import asyncio
import re
import socket
from collections.abc import Sequence
from functools import partial

import pytest

from infra.errors import PartFailed
from kafka_io.errors import Unread
from kafka_io.group import GroupConsumer
from kafka_io.software import member_client_id
from kafka_io.topic_admin import GroupMember, TopicAdmin
from schemas.topics import TRAINING_EVENTS
from stream_processors.errors import NameTaken
from stream_processors.worker_name import default_name, held, wait_for_namesake
from tests.conftest import World
from tests.kafka_io.test_group import Decisions


def test_the_default_name_is_that_of_the_host_and_one_that_kafka_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert default_name() == default_name()
    for host in ("db-1.example.com", "große maschine", "x" * 500):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        assert re.fullmatch(r"worker-[a-zA-Z0-9._-]{1,100}", default_name())
    monkeypatch.setattr("socket.gethostname", lambda: "db-1.example.com")
    assert default_name() == "worker-db-1.example.com"


def test_a_name_is_held_by_one_process_at_a_time_and_free_afterwards() -> None:
    with held("servers", "group", "name"):
        with (
            pytest.raises(NameTaken, match=r"process \d+ of this host is a worker named name.*_ID"),
            held("servers", "group", "name"),
        ):
            pass
        with held("servers", "group", "other"), held("servers", "another", "name"):
            pass
    with held("servers", "group", "name"):
        pass


def test_where_no_lock_can_be_written_the_worker_runs_nonetheless(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/there/is/no/such/folder")
    with held("servers", "group", "name"):
        assert "no lock for the name of this worker" in caplog.text


class Group:
    """Answers with one list of members after the other; the last one stays."""

    def __init__(self, *answers: Sequence[GroupMember]) -> None:
        self._answers = list(answers)
        self.questions = 0

    def __call__(self) -> Sequence[GroupMember]:
        self.questions += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


ELSEWHERE = GroupMember("name", "tapewire@elsewhere")
OTHERS = [GroupMember("other", "tapewire@elsewhere"), GroupMember("name", member_client_id())]


@pytest.mark.virtual_time
async def test_an_earlier_self_on_this_host_is_no_namesake() -> None:
    earlier_release = GroupMember("name", f"tapewire@{socket.gethostname()}")
    group = Group([*OTHERS, earlier_release])
    await wait_for_namesake(group, "name", within_s=15)
    assert group.questions == 1


@pytest.mark.virtual_time
async def test_a_namesake_that_has_died_on_another_host_is_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    group = Group([ELSEWHERE], [*OTHERS, ELSEWHERE], OTHERS)
    await wait_for_namesake(group, "name", within_s=15)
    assert group.questions == 3
    assert caplog.text.count("runs on host elsewhere, or has just died") == 1


@pytest.mark.virtual_time
async def test_a_namesake_that_lives_on_another_host_is_named() -> None:
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(NameTaken, match=r"a worker named name runs on host elsewhere; give each"):
        await wait_for_namesake(Group([ELSEWHERE]), "name", within_s=15)
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(15, abs=1)


async def test_a_group_that_cannot_be_asked_stops_no_worker() -> None:
    def members() -> Sequence[GroupMember]:
        raise Unread("not now")

    await wait_for_namesake(members, "name", within_s=15)


@pytest.mark.kafka
async def test_kafka_names_the_host_of_a_member(world: World) -> None:
    group = f"{world.prefix}group"
    decisions = Decisions()
    async with GroupConsumer(
        world.kafka.bootstrap_servers,
        group,
        "name",
        session_timeout_s=6,
        client_id="tapewire@elsewhere",
    ) as consumer:
        await consumer.join([world.topic(TRAINING_EVENTS.name)], decisions)
        await decisions.assigned_numbers.get()
        members = partial(TopicAdmin(world.kafka.bootstrap_servers).describe_members, group)
        with pytest.raises(NameTaken, match="runs on host elsewhere"):
            await wait_for_namesake(members, "name", within_s=1)


@pytest.mark.kafka
@pytest.mark.timeout(180)
async def test_a_second_worker_says_so_and_exits_and_the_first_goes_on(world: World) -> None:
    first = await world.worker(worker_id="one")
    with pytest.raises(PartFailed, match="died with exit code"):
        await world.worker(worker_id="one")
    first_log = first.process.log_path.read_text()
    [second_path] = set(world.folder.glob("worker-*.log")) - {first.process.log_path}
    second_log = second_path.read_text()
    pid = first.process.pid
    assert f"this worker stops: process {pid} of this host is a worker named" in second_log
    assert "give each worker a TAPEWIRE_WORKER_ID of its own" in second_log
    assert "stops" not in first_log
    await world.worker(worker_id="two")
    await first.kill()
    await world.worker(worker_id="one")
