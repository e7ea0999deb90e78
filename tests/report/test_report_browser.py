"""The report as it is seen and used: opened offline in Chromium, its slider moved."""

import io

import numpy as np
import pytest
from browser import Browser, find_browser
from outputs import make_output, write_mrc
from PIL import Image

from tomoseg.report.write import write_report

SHAPE = (24, 70, 90)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of a tomogram that is dark on the right above its middle, and on the left below it."""
    folder = tmp_path_factory.mktemp("browser")
    density = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    density[:12, 20:50, 10:30] -= 4
    density[12:, 20:50, 60:80] -= 4
    saliency = np.where(density < -2, 240, 5).astype(np.uint8)
    write_report(make_output(write_mrc(folder / "a.mrc", density), saliency), folder / "a.html")
    return folder / "a.html"


@pytest.fixture
def browser(tmp_path):
    path = find_browser()
    (tmp_path / "profile").mkdir()
    with Browser(path, tmp_path / "profile") as found:
        yield found


def seen(browser, path, name):
    """Grey values of an element as they are seen; the whole window goes to a file."""
    left, top, width, height = (round(value) for value in browser.box(name))
    image = Image.open(io.BytesIO(browser.screenshot(path))).convert("L")
    return np.asarray(image.crop((left, top, left + width, top + height)), float)


def test_the_slider_moves_the_slice_and_nothing_complains(browser, report, tmp_path):
    where = "document.getElementById('where').textContent"
    browser.open(report)
    for share, position, darker in ((0.02, "z = 0 of 24", 0), (0.98, "z = 23 of 24", 1)):
        browser.click("z", share)
        assert browser.run(where) == position
        picture = seen(browser, tmp_path / f"{darker}.png", "xy")
        halves = [half.mean() for half in np.array_split(picture, 2, axis=1)]
        assert halves[darker] < halves[1 - darker] - 5
    browser.press("ArrowLeft")
    assert browser.run(where) == "z = 22 of 24"

    outlined = seen(browser, tmp_path / "outlined.png", "xy")
    browser.click("mask")
    assert np.abs(seen(browser, tmp_path / "bare.png", "xy") - outlined).max() > 20

    assert browser.complaints() == []
    assert {address.partition(":")[0] for address in browser.requests()} == {"file", "data"}
    assert all(browser.run("[...document.images].map(image => image.naturalWidth > 0)"))
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
