"""Names of models: one id per tenant and name, and nothing of it for anybody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from embedded_servers import EmbeddedServer, mongo_server

from enlight.jobkit.database import Documents, open_database
from enlight.main_api.models.names import ModelNames, new_bucket_id
from enlight.servicekit.errors import Conflict, DatabaseUnavailable, InvalidField, NotFound

TIMEOUT_S = 5.0


@pytest.fixture
def database(mongo: EmbeddedServer) -> Iterator[Documents]:
    database = open_database(mongo.url, f"names_{new_bucket_id()}", timeout_s=TIMEOUT_S)
    yield database
    database.client.close()


@pytest.fixture
def names(database: Documents) -> ModelNames:
    return ModelNames(database)


def test_a_name_means_one_id_for_its_tenant(names: ModelNames) -> None:
    # Given a name that a tenant reserved
    bucket_id = names.reserve("anna", "dog")
    # When it is asked for again, in every way
    # Then it means the same
    assert names.reserve("anna", "dog") == bucket_id
    assert names.bucket_id("anna", "dog") == bucket_id
    assert names.name_of("anna", bucket_id) == "dog"
    assert names.get("anna", "dog").tenant == "anna"
    assert abs(names.get("anna", "dog").created_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_two_tenants_share_a_name_and_nothing_else(names: ModelNames) -> None:
    # Given two tenants with one name
    annas, bens = names.reserve("anna", "dog"), names.reserve("ben", "dog")
    # When one of them renames hers
    names.rename("anna", "dog", "hound")
    # Then the other's is as it was
    assert annas != bens
    assert names.bucket_id("ben", "dog") == bens
    assert [each.name for each in names.list("anna", limit=10)] == ["hound"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda names, _: names.bucket_id("ben", "dog"),
        lambda names, _: names.get("ben", "dog"),
        lambda names, _: names.get("ben", "dog", in_removal_too=True),
        lambda names, _: names.rename("ben", "dog", "mine"),
        lambda names, bucket_id: names.name_of("ben", bucket_id),
    ],
    ids=["bucket_id", "get", "get in removal", "rename", "name_of"],
)
def test_anothers_model_is_not_there(names: ModelNames, ask: Callable[[ModelNames, str], object]) -> None:
    # Given a model of one tenant
    bucket_id = names.reserve("anna", "dog")
    # When another asks for it, by its name or by its id
    # Then it does not exist, and it did not change
    with pytest.raises(NotFound):
        ask(names, bucket_id)
    assert names.list("ben", limit=10) == []
    assert names.name_of("anna", bucket_id) == "dog"


def test_many_at_once_get_one_id(names: ModelNames) -> None:
    # Given sixteen requests for new names at once, several times, the first to a database that has no index yet
    with ThreadPoolExecutor(16) as threads:
        for attempt in range(10):
            # When all reserve the same name
            found = set(threads.map(lambda _, name=f"model-{attempt}": names.reserve("anna", name), range(16)))
            # Then they got the same id
            assert len(found) == 1
    # And there is one row for each name
    assert len(names.list("anna", limit=1000)) == 10


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".x", "a" * 65, "a\n", "a b", "ä"])
def test_what_is_no_name_is_refused(names: ModelNames, name: str) -> None:
    # Given text that no model can be called
    names.reserve("anna", "dog")
    # When it is used for a new model or a new name
    # Then it is refused, under the field that the route has
    with pytest.raises(InvalidField, match="model_id"):
        names.reserve("anna", name)
    with pytest.raises(InvalidField, match="name: must"):
        names.rename("anna", "dog", name)


def test_a_new_name_leaves_the_id(names: ModelNames) -> None:
    # Given a model
    bucket_id = names.reserve("anna", "dog")
    # When it gets another name
    renamed = names.rename("anna", "dog", "hound")
    # Then the new name means the same, and the old one is free for another model
    assert (renamed.name, renamed.bucket_id) == ("hound", bucket_id)
    assert names.bucket_id("anna", "hound") == bucket_id
    with pytest.raises(NotFound):
        names.bucket_id("anna", "dog")
    assert names.reserve("anna", "dog") != bucket_id


def test_a_taken_name_is_not_given_twice(names: ModelNames) -> None:
    # Given two models of one tenant
    dog, cat = names.reserve("anna", "dog"), names.reserve("anna", "cat")
    # When one shall be called as the other
    # Then that is refused, and both are as they were
    with pytest.raises(Conflict):
        names.rename("anna", "dog", "cat")
    assert (names.bucket_id("anna", "dog"), names.bucket_id("anna", "cat")) == (dog, cat)
    # And its own name is no other's
    assert names.rename("anna", "dog", "dog").bucket_id == dog


def test_names_come_in_pages(names: ModelNames) -> None:
    # Given seven models, made in no order
    for name in ("d", "a", "g", "b", "f", "c", "e"):
        names.reserve("anna", name)
    # When they are read three at a time, and one page's last is removed in between
    pages = [names.list("anna", limit=3)]
    names.forget(pages[0][-1].bucket_id)
    pages += [names.list("anna", limit=3, after="c"), names.list("anna", limit=3, after="f")]
    # Then each came once, in order
    assert [[each.name for each in page] for page in pages] == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


def test_a_model_in_removal_has_no_name_but_its_name_is_not_free(names: ModelNames) -> None:
    # Given a model whose removal began
    bucket_id = names.reserve("anna", "dog")
    names.begin_removal(bucket_id)
    # When it is asked for
    # Then nobody finds it
    with pytest.raises(NotFound):
        names.bucket_id("anna", "dog")
    with pytest.raises(NotFound):
        names.name_of("anna", bucket_id)
    assert names.list("anna", limit=10) == []
    # And nobody gets its name or its id, but its removal can go on
    with pytest.raises(Conflict, match="being removed"):
        names.reserve("anna", "dog")
    assert names.get("anna", "dog", in_removal_too=True).bucket_id == bucket_id
    # When the removal ended
    assert names.forget(bucket_id)
    # Then the name is free, for another model
    assert names.reserve("anna", "dog") != bucket_id


def test_the_last_use_is_noted_once_a_minute(names: ModelNames, database: Documents) -> None:
    # Given a model that was never used
    bucket_id = names.reserve("anna", "dog")
    assert names.get("anna", "dog").last_used_at is None
    # When it is used twice
    names.note_use(bucket_id)
    first = names.get("anna", "dog").last_used_at
    names.note_use(bucket_id)
    # Then the second time, within the minute, wrote nothing
    assert first is not None
    assert abs(first - datetime.now(UTC)) < timedelta(minutes=1)
    assert names.get("anna", "dog").last_used_at == first
    # When the last note is older
    earlier = first - timedelta(minutes=5)
    database["models"].update_one({"_id": bucket_id}, {"$set": {"last_used_at": earlier}})
    names.note_use(bucket_id)
    # Then it is renewed
    now = names.get("anna", "dog").last_used_at
    assert now is not None
    assert now > earlier + timedelta(minutes=4)


def test_ids_sort_by_time_and_never_repeat() -> None:
    # Given ids made one after the other
    early = new_bucket_id()
    many = {new_bucket_id() for _ in range(1000)}
    # When the clock moved on
    deadline_s = time.monotonic() + 5
    while (late := new_bucket_id())[:12] == early[:12]:
        assert time.monotonic() < deadline_s
    # Then none is there twice, and later ones come later
    assert len(many) == 1000
    assert early < late


def test_a_database_that_is_away_is_one_error(tmp_path: Path) -> None:
    # Given a database that was killed
    with mongo_server(tmp_path / "mongo") as server, ExitStack() as clients:
        database = open_database(server.url, "names", timeout_s=TIMEOUT_S)
        hasty = open_database(server.url, "names", timeout_s=0.2)
        clients.callback(database.client.close)
        clients.callback(hasty.client.close)
        bucket_id = ModelNames(database).reserve("anna", "dog")
        names = ModelNames(hasty)
        server.kill()
        # When anything is asked
        asks: list[Callable[[], object]] = [
            names.make_indexes,
            lambda: names.reserve("anna", "cat"),
            lambda: names.bucket_id("anna", "dog"),
            lambda: names.name_of("anna", bucket_id),
            lambda: names.list("anna", limit=1),
            lambda: names.rename("anna", "dog", "cat"),
            lambda: names.begin_removal(bucket_id),
            lambda: names.forget(bucket_id),
        ]
        # Then it says so in time, and a use that cannot be noted is no error
        for ask in asks:
            begun_s = time.monotonic()
            with pytest.raises(DatabaseUnavailable):
                ask()
            assert time.monotonic() - begun_s < 5
        names.note_use(bucket_id)
        # And with the database back all is as it was
        server.start()
        assert ModelNames(database).bucket_id("anna", "dog") == bucket_id
