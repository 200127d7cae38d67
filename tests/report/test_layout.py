"""The page as a browser lays it out: nothing runs over, nothing is torn apart letter by letter."""

import html
import json
import re
import shutil
import subprocess

import pytest

from recbole_slif import cli
from tests.report.folders import cell, line, write_folder

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
MODELS = ("BPR", "LightGCN", "KGAT", "SLIFMR", "AVeryLongNameOfAModelOfOnesOwn")
COMMAND = ["experiment", "--experiment=table2_overall", f"--feature_path={'folder/' * 30}"]
# what is measured inside the page: its width, its scrolling tables, torn names, headings cut off
SCRIPT = """
const frame = document.querySelector("iframe"), page = frame.contentDocument;
page.querySelectorAll("details").forEach(one => one.open = true);
const lines = one => {
  const range = page.createRange();
  range.selectNodeContents(one);
  return range.getClientRects().length;
};
const found = {
  page: page.documentElement.scrollWidth,
  tables: [...page.querySelectorAll(".scroll")].map(one => [one.clientWidth, one.scrollWidth]),
  captions: [...page.querySelectorAll(".caption")].map(one => one.getBoundingClientRect().right),
  names: [...page.querySelectorAll(".wide tbody th")].map(lines),
  options: [...page.querySelectorAll("code span")].map(one => one.getBoundingClientRect().right),
};
document.body.textContent = "MEASURED" + JSON.stringify(found) + "END";
"""


def measured(page, width, folder):
    """Lay the page out at a width; return what SCRIPT finds."""
    frame = f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(page)}">'
    load = "document.querySelector('iframe').onload = () => {" + SCRIPT + "};"
    wrapper = folder / "wrapper.html"
    wrapper.write_text(f"<body>{frame}</iframe><script>{load}</script></body>", encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += [
        "--disable-sync",
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1600,1000",
    ]
    command += ["--virtual-time-budget=5000", "--dump-dom", wrapper.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    answer = re.search("MEASURED(.*)END", done.stdout)
    assert answer, done.stderr[-2000:]
    return json.loads(html.unescape(answer[1]))


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which lays the page out")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_the_screen_and_wide_tables_scroll_alone(tmp_path, width):
    cells = [cell(model) for model in MODELS]
    lines = [
        line(one, seed, config={"seed": seed, "note": "word " * 60, "path": "x" * 300, "of": at})
        for at, one in enumerate(cells)
        for seed in (1, 2, 3)
    ]
    folder = write_folder(tmp_path / "mine", cells, lines, command=COMMAND, title="A title " * 8)
    assert cli.main(["report", str(folder), "--no-figures"]) == 0
    found = measured((folder / "report/index.html").read_text("utf-8"), width, tmp_path)
    assert found["page"] <= width
    assert len(found["tables"]) > 3
    assert all(right <= width for right in found["captions"] + found["options"])
    scrolling = [wide > seen for seen, wide in found["tables"]]
    assert any(scrolling) or width > 1000
    assert found["names"] and max(found["names"]) <= 2, "a name is torn into letters"
