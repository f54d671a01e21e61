"""The curves that the benchmarks draw are well-formed, and their points lie where the axes say."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, write_lines

SVG = "{http://www.w3.org/2000/svg}"


def drawn(path):
    tree = ET.fromstring(path.read_text())
    lines = [
        [tuple(map(float, corner.split(","))) for corner in line.get("points").split()]
        for line in tree.iter(f"{SVG}polyline")
    ]
    return lines, [text.text for text in tree.iter(f"{SVG}text")]


def test_equal_factors_are_equal_distances_on_a_logarithmic_axis(tmp_path):
    write_lines(tmp_path / "a.svg", "Title <&>", {"one": [(1e4, 1.0), (1e5, 10.0), (1e6, 100.0)]}, x="n", y="ms")
    [line], texts = drawn(tmp_path / "a.svg")
    assert line[0] == pytest.approx((LEFT, HEIGHT - BOTTOM), abs=0.1)
    assert line[1] == pytest.approx(((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2), abs=0.1)
    assert line[2] == pytest.approx((WIDTH - RIGHT, TOP), abs=0.1)
    assert {"Title <&>", "n", "ms", "one", "10k", "100k", "1M", "10", "100"} <= set(texts)


def test_a_linear_axis_leaves_air_and_several_lines_have_their_own_colours(tmp_path):
    lines = {"one": [(0.9, 10.0)], "two": [(0.98, 1000.0), (0.99, 500.0)]}
    write_lines(tmp_path / "new" / "b.svg", "t", lines, x="recall", y="QPS", log_x=False)
    drawn_lines, _ = drawn(tmp_path / "new" / "b.svg")
    assert all(LEFT < x < WIDTH - RIGHT for line in drawn_lines for x, _ in line)
    assert drawn_lines[1][1][0] - drawn_lines[1][0][0] == pytest.approx(
        (drawn_lines[1][0][0] - drawn_lines[0][0][0]) / 8, rel=0.01
    )
    assert (tmp_path / "new" / "b.svg").read_text().count("<polyline") == 2
