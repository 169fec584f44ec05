"""Tables as text: Markdown, LaTeX, and numbers with their spread or interval."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lkm_kit.evaluation.metrics import about


def to_markdown(table: pd.DataFrame) -> str:
    """
    >>> print(to_markdown(pd.DataFrame({"DSC": ["86.8"]}, index=pd.Index(["a|b"], name="arm"))))
    | arm | DSC |
    |---|---|
    | a\\|b | 86.8 |
    """
    rows = [
        [table.index.name or "", *table.columns],
        *([name, *row] for name, row in zip(table.index, table.to_numpy())),
    ]
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def to_latex(table: pd.DataFrame) -> str:
    r"""A booktabs tabular.

    >>> print(to_latex(pd.DataFrame({"DSC": ["86.8 ± 0.1"]}, index=pd.Index(["U-Mamba_Enc"], name="arm"))))
    \begin{tabular}{ll}
    \toprule
    arm & DSC \\
    \midrule
    U-Mamba\_Enc & 86.8 $\pm$ 0.1 \\
    \bottomrule
    \end{tabular}
    """

    text = table.reset_index().to_latex(index=False, escape=True).rstrip()
    return text.replace("±", r"$\pm$").replace("−", "$-$").replace("–", "--")


def tokens_text(tokens: dict[str, list[int]]) -> str:
    """
    >>> tokens_text({"PiM": [576, 144], "PaM": [16, 4]}), tokens_text({})
    ('PiM 576, 144; PaM 16, 4', '–')
    """
    return "; ".join(f"{name} {', '.join(map(str, lengths))}" for name, lengths in tokens.items()) or "–"


def with_unit(metric: str) -> str:
    """
    >>> with_unit("DSC"), with_unit("HD95")
    ('DSC', 'HD95, mm')
    """
    unit = about(metric).unit
    return metric if unit == "%" else f"{metric}, {unit}"


def number(value: float, digits: int = 2) -> str:
    """A number, or a dash for none."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def p_text(p: float) -> str:
    """
    >>> p_text(3e-11), p_text(0.0525), p_text(float("nan"))
    ('<0.0001', '0.0525', '–')
    """
    return "<0.0001" if p < 1e-4 else number(p, 4)


def would_show(detectable: float, metric: str) -> str:
    """The smallest difference that a study would have shown, unless it is larger than any can be.

    >>> would_show(1.234, "DSC"), would_show(128.9, "DSC"), would_show(128.9, "HD95")
    ('±1.23', 'none', '±128.90')
    """
    if np.isnan(detectable):
        return "–"
    return "none" if about(metric).unit == "%" and detectable > 100 else f"±{detectable:.2f}"


def mean_sd(mean: float, sd: float) -> str:
    """``86.82 ± 0.10``."""
    return number(mean) if np.isnan(sd) else f"{mean:.2f} ± {sd:.2f}"


def bounds(low: float, high: float) -> str:
    """``[+0.50, +1.90]``; a dash for one without end, of a single case and seed."""
    return f"[{low:+.2f}, {high:+.2f}]".replace("-", "−") if np.isfinite(low) else "–"


def interval(difference: float, low: float, high: float) -> str:
    """``+1.20 [+0.50, +1.90]``."""
    return "–" if np.isnan(difference) else f"{difference:+.2f} ".replace("-", "−") + bounds(low, high)
