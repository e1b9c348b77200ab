from pathlib import Path

from convlens.export.zoo_table import write_table


def _rows(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith("| lenet5")]


def test_each_architecture_has_a_row_and_an_interrupted_table_is_taken_up_again(
    tmp_path: Path,
) -> None:
    path, part = tmp_path / "zoo.md", tmp_path / "zoo.md.part"
    assert write_table(path, ["lenet5"]) == 0
    (row,) = _rows(path)
    assert row.startswith("| lenet5 | 61,706 | 0.4 M | 1x32x32 | ")
    assert "| 100% | 0.3 MB |" in row
    assert not part.exists()

    part.write_text(path.read_text().replace("61,706", "measured before"))
    assert write_table(path, ["lenet5", "no_such_network"]) == 1
    assert "| no_such_network | failed: no architecture is called" in path.read_text()
    (kept,) = _rows(path)
    assert kept == row.replace("61,706", "measured before")


def test_rows_of_other_releases_and_failures_are_measured_again(tmp_path: Path) -> None:
    path, part = tmp_path / "zoo.md", tmp_path / "zoo.md.part"
    part.write_text("# The zoo\n\n| lenet5 | of old |")
    assert write_table(path, ["lenet5"]) == 0
    assert "of old" not in path.read_text()
    part.write_text(path.read_text().rsplit("\n", 2)[0] + "\n| lenet5 | failed: no memory |")
    assert write_table(path, ["lenet5"]) == 0
    assert "no memory" not in path.read_text()
