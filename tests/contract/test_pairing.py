"""`jobs/pairing.py`: which database may have which folder, and which is refused with nothing changed."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from limner.adapters.disk_blobs import DiskBlobs
from limner.domain.errors import SettingsError
from limner.jobs.pairing import DATABASE_ID, pair
from tests.contract.machine import Machine, new_job, open_sqlite
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
