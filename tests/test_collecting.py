"""From the files of a learning platform to one notebook a student."""

import csv
import zipfile
from datetime import datetime

import pytest
from submissions import NAME

from collecting import collect


@pytest.fixture
def archive(tmp_path):
    """An archive as a platform would make it: name → (time, content)."""

    def make(**files):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, (day, content) in files.items():
                archive.writestr(zipfile.ZipInfo(name, (2026, 2, day, 12, 0, 0)), content)
        return path

    return make


DEADLINE = datetime(2026, 2, 10)


@pytest.fixture
def class_folder(tmp_path):
    folder = tmp_path / "class"
    (folder / "source" / NAME).mkdir(parents=True)
    (folder / "source" / NAME / f"{NAME}.ipynb").touch()
    return folder


def collected(folder, files, deadline=DEADLINE, **more):
    notes = collect(folder, NAME, files, deadline, **more)
    with (folder / "collected" / f"{NAME}.csv").open(newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    contents = {
        path.parent.parent.name: path.read_text() for path in folder.glob(f"submitted/*/*/{NAME}.ipynb")
    }
    assert set(rows) == set(contents)
    return contents, rows, notes


@pytest.mark.parametrize(("name", "student"), [
    ("Ada Lovelace_1234_assignsubmission_file_/my work (2).ipynb", "Ada_Lovelace_1234"),
    ("Ada Lovelace_1234_assignsubmission_file_work.ipynb", "Ada_Lovelace_1234"),
    ("María-José O'Neill_77_assignsubmission_file_/WORK.IPYNB", "María_José_O_Neill_77"),
    ("lovelaceada_1234_56789_build-them-yourself-1.ipynb", "lovelaceada_1234"),
    ("Build them yourself_al123_attempt_2026-02-03-15-00-00_work.ipynb", "al123"),
    ("al123/build-them-yourself.ipynb", "al123"),
    ("al123/deep/er/build-them-yourself.ipynb", "al123"),
    ("../../al123/x.ipynb", None),
    ("work.ipynb", None),
    ("=HYPERLINK(1)/x.ipynb", "HYPERLINK_1"),
    ("-rf/x.ipynb", "rf"),
])  # fmt: skip
def test_names_of_platforms(archive, class_folder, name, student):
    contents, _, notes = collected(class_folder, [archive(**{name: (1, "work")})])
    if student is None:
        assert contents == {}
        assert "does not say whose" in notes[0]
    else:
        assert contents == {student: "work"}
        assert notes == []


def test_the_newest_before_the_deadline_counts_and_late_ones_are_marked(archive, class_folder):
    contents, rows, notes = collected(class_folder, [
        archive(**{"ada/a.ipynb": (3, "first"), "ada/b.ipynb": (9, "second"), "bob/a.ipynb": (11, "late")}),
        archive(**{"ada/c.ipynb": (12, "too late"), "bob/b.ipynb": (13, "later"), "cleo/a.ipynb": (1, "c")}),
    ])  # fmt: skip
    assert contents == {"ada": "second", "bob": "later", "cleo": "c"}
    assert [rows[name]["late"] for name in ("ada", "bob", "cleo")] == ["", "late", ""]
    assert rows["ada"]["handed_in"] == "2026-02-09 12:00:00"
    assert "late: bob, 2026-02-13 12:00" in notes
    assert "left aside: 'ada/c.ipynb': 'ada/b.ipynb' counts" in notes


@pytest.mark.parametrize(("name", "student"), [
    ("ada_LATE_12_34_a.ipynb", "ada_12"), ("X_ada_attempt_2026-02-11-00-00-00_a.ipynb", "ada"),
])  # fmt: skip
def test_a_platform_s_own_word_on_lateness_counts(archive, class_folder, name, student):
    _, rows, _ = collected(class_folder, [archive(**{name: (1, "x")})])
    assert rows[student]["late"] == "late"


def test_what_was_collected_before_is_compared_as_well(archive, class_folder):
    first = archive(**{"ada/a.ipynb": (3, "in time"), "bob/a.ipynb": (12, "late"), "cleo/a.ipynb": (1, "c")})
    collected(class_folder, [first])
    second = archive(**{"ada/b.ipynb": (12, "too late"), "bob/b.ipynb": (9, "in time after all")})
    contents, rows, _ = collected(class_folder, [second])
    assert contents == {"ada": "in time", "bob": "in time after all", "cleo": "c"}
    assert [row["late"] for row in rows.values()] == ["", "", ""]
    assert rows["ada"]["file"] == "ada/a.ipynb"


def test_archives_in_archives_other_files_and_junk(archive, class_folder):
    inner = archive(**{"my work.ipynb": (2, "inner"), "inner.zip": (2, "x")}).read_bytes()
    contents, _, notes = collected(class_folder, [archive(**{
        "ada/work.zip": (2, inner), "bob/work.pdf": (2, "pdf"), "__MACOSX/ada/._a.ipynb": (2, "x"),
        "cleo/work.zip": (2, "no zip"),
    })])  # fmt: skip
    assert contents == {"ada": "inner"}
    assert sorted(note.split("'")[1] for note in notes) == [
        "ada/work.zip/inner.zip",
        "bob/work.pdf",
        "cleo/work.zip",
    ]


def test_too_large_is_left_aside_unread(archive, class_folder, monkeypatch):
    monkeypatch.setattr("collecting.MAX_BYTES", 100)
    contents, _, notes = collected(
        class_folder, [archive(**{"ada/a.ipynb": (1, "x" * 101), "bob/a.ipynb": (1, "x")})]
    )
    assert contents == {"bob": "x"}
    assert "larger than" in notes[0]


def test_folders_and_a_pattern_of_one_s_own(tmp_path, class_folder):
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "hw1--ada.ipynb").write_text("a")
    (folder / "link--bob.ipynb").symlink_to("/etc/passwd")
    contents, _, _ = collected(class_folder, [folder], pattern=r".*--(?P<student>\w+)\.ipynb")
    assert contents == {"ada": "a"}
