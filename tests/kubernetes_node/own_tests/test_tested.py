"""The own tests are left out only while the package is as it was when they passed."""

from tests.kubernetes_node import tested


def test_a_changed_file_is_another_hash(monkeypatch, tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("A = 1\n")
    monkeypatch.setattr(tested, "PACKAGE", package)
    monkeypatch.setattr(tested, "NOTE", package / "tested.txt")
    monkeypatch.setattr(tested, "STARTER", tmp_path / "started.py")
    tested.STARTER.write_text("")
    assert not tested.is_tested()
    tested.NOTE.write_text(f"{tested.package_hash()}\n")
    assert tested.is_tested()
    for change in (
        lambda: (package / "a.py").write_text("A = 2\n"),
        lambda: (package / "a.py").rename(package / "b.py"),
        lambda: tested.STARTER.write_text("# another\n"),
        lambda: monkeypatch.setattr(tested, "version", lambda _: "0"),
    ):
        tested.NOTE.write_text(f"{tested.package_hash()}\n")
        assert tested.is_tested()
        change()
        assert not tested.is_tested()
