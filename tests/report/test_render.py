"""What a format gives a meaning is escaped; marks and rules are written as the format has them."""

import shutil
import subprocess

import pytest

from recbole_slif.report import render
from recbole_slif.report.tables import Entry, Table

NASTY = r"a_b & 5% $x$ #1 {y} ~ ^ \cmd <i> | *z*"
TABLE = Table(
    "Best of 50%",
    ("variant", "Recall@20"),
    ((Entry(NASTY), Entry("0.1 ± 0.2", "best")), (Entry("w/o KG&MM"), Entry("0.1", "second"))),
    frozenset({1}),
    ("a note_",),
)


def test_latex():
    text = render.latex_table(TABLE, TABLE.title)
    assert (
        r"a\_b \& 5\% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}cmd "
        r"\textless{}i\textgreater{} \textbar{} *z* & \textbf{0.1 $\pm$ 0.2} \\"
    ) in text
    assert r"w/o KG\&MM & \underline{0.1} \\" in text
    assert r"\caption{Best of 50\%}" in text
    assert text.count(r"\midrule") == 2
    assert text.index("textbackslash") < text.rindex(r"\midrule") < text.index("underline")
    assert text.count(r" \\") == 3


def test_latex_takes_no_name_for_an_option_of_the_row_before():
    rows = tuple((Entry(name),) for name in ("a", "[x] b", "*c"))
    lines = render.latex_table(Table("t", ("model",), rows), "t").splitlines()
    assert {r"{}[x] b \\", r"{}*c \\"} <= set(lines)


def test_latex_names_break_before_brackets():
    one = Table("t", ("share (%)", "Recall@20 (paper)", "P/R"), ((Entry("a"),) * 3,))
    lines = render.latex_table(one, "t").splitlines()
    assert r"\shortstack[l]{share\\(\%)} & \shortstack[r]{Recall@20\\(paper)} & P/R \\" in lines


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs")
@pytest.mark.parametrize(("columns", "scaled"), [(1, False), (14, True)])
def test_latex_compiles_and_stays_inside_the_line(tmp_path, columns, scaled):
    names = ("variant", *(f"Recall@{at} (paper)" for at in range(columns)))
    rows = tuple((Entry(NASTY[:12]), *(Entry("0.1 ± 0.2", "best"),) * columns) for _ in range(3))
    text = render.latex_table(Table("t", names, rows, frozenset({1}), ("note_",)), "50% of $x$")
    head = r"\documentclass{article}\usepackage[utf8]{inputenc}\usepackage{booktabs,graphicx}"
    content = "\n".join([head, r"\begin{document}", text, r"\end{document}", ""])
    (tmp_path / "a.tex").write_text(content, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    whole = text.replace(r"\resizebox{\linewidth}{!}", "")
    (tmp_path / "a.tex").write_text(content.replace(text, whole), encoding="utf-8")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert ("Overfull" in done.stdout) == scaled


def test_markdown():
    lines = render.markdown_table(TABLE).splitlines()
    assert lines[2] == "| variant | Recall@20 |"
    assert lines[3] == "|---|---:|"
    assert lines[4] == (r"| a\_b & 5% $x$ #1 {y} ~ ^ \\cmd \<i\> \| \*z\* | **0.1 ± 0.2** |")
    assert lines[5] == "| w/o KG&MM | <u>0.1</u> |"
    assert lines[-1] == r"- a note\_"


def test_html():
    text = render.html_table(TABLE)
    assert "&lt;i&gt;" in text
    assert "<i>" not in text
    assert "<td><strong>0.1 ± 0.2</strong></td>" in text
    assert '<p class="caption">Best of 50%</p><div class="scroll"' in text, "not in what scrolls"
    assert '<tr class="rule"><th scope="row">w/o KG&amp;MM</th><td><u>0.1</u></td>' in text


def test_csv_has_all_keys_and_quotes():
    text = render.csv_rows([{"cell": 'a,"b"', "x": None}, {"cell": "c", "more": 0.125}])
    assert text.splitlines() == ["cell,x,more", '"a,""b""",,', "c,,0.125"]
