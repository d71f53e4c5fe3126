"""`jobs/pairing.py`: which database may have which folder, and which is refused with nothing changed."""

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from limner.adapters import disk_blobs
from limner.adapters.disk_blobs import DiskBlobs
from limner.domain.errors import SettingsError, UnavailableError
from limner.jobs.pairing import DATABASE_ID, pair
from tests.contract.databases import POSTGRESQL_ONLY
from tests.contract.machine import Machine, at_once, new_job, open_machine, open_sqlite
from tests.contract.rival import act, sha256_of


class Place:
    """A folder with databases and folders of blobs, by name."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self.folder = folder
        self.held = held

    def machine(self, name: str) -> Machine:
        made = open_sqlite(self.folder / name)
        self.held.callback(made.close)
        return made

    def pair(self, database: str, folder: str) -> str:
        """Pair them as a start does, and let go as a stop does; the id."""
        machine, blobs = self.machine(database), DiskBlobs(self.folder / folder, durable=True)
        try:
            pair(machine.store, machine.reader, blobs, database=database, folder=str(self.folder / folder))
        finally:
            blobs.release()
        known = machine.store.transact(lambda tx: tx.fact(DATABASE_ID))
        assert known == self.mark(folder).read_text().strip()
        assert known is not None
        return known

    def mark(self, folder: str) -> Path:
        return self.folder / folder / "database-id"

    def store(self, database: str, folder: str, photo: str) -> None:
        """A job with its photo."""
        machine, blobs = self.machine(database), DiskBlobs(self.folder / folder, durable=True)
        job = new_job(f"work on {photo}", picture=sha256_of(photo))
        assert act(machine, blobs, lambda _: None, "submit", job.cache_key, photo) == "new"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as held:
        yield Place(tmp_path, held)


def test_a_new_database_and_a_new_folder_belong_together_from_then_on(place: Place) -> None:
    first = place.pair("a.db", "blobs")
    place.store("a.db", "blobs", "photo")
    assert place.pair("a.db", "blobs") == first
    assert place.mark("blobs").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("has_photos", [True, False])
@pytest.mark.parametrize("is_new", [True, False])
def test_the_folder_of_another_database_is_refused(place: Place, has_photos: bool, is_new: bool) -> None:
    owner = place.pair("a.db", "blobs")
    if has_photos:
        place.store("a.db", "blobs", "photo")
    if not is_new:
        place.pair("typo.db", "other blobs")
    with pytest.raises(SettingsError, match=r"LIMNER_BLOBS_URL.*/blobs .*another database \(typo.db\).*mistyped"):
        place.pair("typo.db", "blobs")
    assert place.mark("blobs").read_text().strip() == owner
    assert place.pair("a.db", "blobs") == owner


def test_photos_without_an_owner_are_refused_to_a_database_that_names_none(place: Place) -> None:
    place.store("a.db", "blobs", "photo")
    with pytest.raises(SettingsError, match="names none"):
        place.pair("typo.db", "blobs")
    place.store("b.db", "other blobs", "another photo")
    with pytest.raises(SettingsError, match="names none"):
        place.pair("b.db", "blobs")
    assert place.mark("blobs").read_text() == ""
    place.pair("a.db", "blobs")  # an installation from before there were ids


def test_a_restored_backup_works_with_its_folder(place: Place) -> None:
    place.store("a.db", "blobs", "photo")
    place.held.pop_all().close()
    shutil.copy(place.folder / "a.db", place.folder / "before ids.db")
    owner = place.pair("a.db", "blobs")
    place.held.pop_all().close()
    shutil.copy(place.folder / "a.db", place.folder / "with id.db")
    shutil.copytree(place.folder / "blobs", place.folder / "copied")
    shutil.copytree(place.folder / "blobs", place.folder / "without mark")
    place.mark("without mark").unlink()
    for database in ("before ids.db", "with id.db"):
        for folder in ("blobs", "copied", "without mark"):
            assert place.pair(database, folder) == owner


def test_a_lost_folder_may_be_replaced_by_an_empty_one(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    owner = place.pair("a.db", "blobs")
    place.store("a.db", "blobs", "photo")
    assert place.pair("a.db", "new blobs") == owner
    assert "is empty, but the database names photos" in caplog.text


def test_only_one_service_at_a_time_has_the_folder_whatever_path_leads_to_it(tmp_path: Path) -> None:
    first, link = DiskBlobs(tmp_path / "blobs", durable=True), tmp_path / "link"
    link.symlink_to(tmp_path / "blobs")
    second = DiskBlobs(link, durable=True)
    assert first.claim() is None
    with pytest.raises(SettingsError, match=r"LIMNER_BLOBS_URL.*another service"):
        second.claim()
    first.release()
    assert second.claim() is None
    second.release()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path / "blobs", durable=True)
    (tmp_path / "blobs" / "database-id").mkdir()
    with pytest.raises(SettingsError, match="LIMNER_BLOBS_URL"):
        blobs.claim()


# --- several processes on one folder ---------------------------------------------------------------------------------


def test_processes_that_share_a_database_share_its_folder(tmp_path: Path) -> None:
    first, second, third = (DiskBlobs(tmp_path / "blobs", durable=True, shared=True) for _ in range(3))
    alone = DiskBlobs(tmp_path / "blobs", durable=True)
    assert first.claim() is None
    first.belong_to("the id")
    assert second.claim() == "the id"
    first.release()
    assert third.claim() == "the id"
    with pytest.raises(SettingsError, match="another service"):
        alone.claim()
    second.release()
    third.release()
    assert alone.claim() == "the id"
    alone.release()


def test_who_claims_a_shared_folder_waits_until_it_has_its_id(tmp_path: Path) -> None:
    first, second = (DiskBlobs(tmp_path / "blobs", durable=True, shared=True) for _ in range(2))
    assert first.claim() is None
    with ThreadPoolExecutor(1) as pool:
        claiming = pool.submit(second.claim)
        time.sleep(0.1)
        assert not claiming.done()
        first.belong_to("the id")
        assert claiming.result(10) == "the id"
    first.release()
    second.release()


def test_a_shared_folder_that_another_keeps_for_itself_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_blobs, "MARK_S", 0.05)
    alone, shared = (
        DiskBlobs(tmp_path / "blobs", durable=True),
        DiskBlobs(tmp_path / "blobs", durable=True, shared=True),
    )
    alone.claim()
    alone.belong_to("the id")
    with pytest.raises(SettingsError, match="another service"):
        shared.claim()
    alone.release()


@POSTGRESQL_ONLY
def test_many_processes_that_start_at_once_agree_on_one_id(database_url: str, tmp_path: Path) -> None:
    machines = [open_machine(database_url) for _ in range(6)]
    folders = [DiskBlobs(tmp_path / "blobs", durable=True, shared=True) for _ in machines]

    def start(machine: Machine, blobs: DiskBlobs) -> None:
        pair(machine.store, machine.reader, blobs, database="d", folder="f")

    at_once([lambda m=m, b=b: start(m, b) for m, b in zip(machines, folders, strict=True)])  # type: ignore[misc]
    known = {machine.store.transact(lambda tx: tx.fact(DATABASE_ID)) for machine in machines}
    assert known == {(tmp_path / "blobs" / "database-id").read_text().strip()}
    for machine, blobs in zip(machines, folders, strict=True):
        machine.close()
        blobs.release()


def test_a_worker_makes_no_folder_in_the_place_of_one_that_is_away(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path / "blobs", durable=True, create=False)
    with pytest.raises(UnavailableError):
        blobs.put(b"a photo")
    assert not (tmp_path / "blobs").exists()
    DiskBlobs(tmp_path / "blobs", durable=True)
    assert blobs.get(blobs.put(b"a photo")) == b"a photo"
