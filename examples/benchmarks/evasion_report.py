"""What evasion costs, of several configurations, as tables and a figure."""

from pathlib import Path

from pandas import DataFrame
from tables import keep, markdown, save_page

from pytorch_ood_viyog.benchmark import Evasion
from pytorch_ood_viyog.benchmark.evasion.curves import plot_accepted

__all__ = ["overview", "write"]

_SCRIPT = Path(__file__).with_name("evasion.py")
_READ = (
    "Share of the attacked images that fool the classifier and that the system lets pass, by the "
    "strongest of all attacks for each image, at budgets in 1/255. *Half*: the budget at which "
    "half of them do. *Price*: that budget over the one of the classifier alone, with its 95 % "
    "bootstrap interval; inf where no budget is enough. Detectors raise alarms for 5 % of ID "
    "images."
)


def write(name: str, found: Evasion, command: str, out: Path) -> None:
    """
    :param name: of the configuration; tables keep what they hold of others
    :param found: what was found
    :param command: what made it
    :param out: folder for tables and figure
    """
    out.mkdir(parents=True, exist_ok=True)
    details = f"{found.table(f'The price of evasion: {name}')}\nMade by `{command}`.\n"
    save_page(out / f"evasion_{name}.md", details, _SCRIPT)
    table = keep([{"model": name, **row} for row in found.rows()], out / "evasion.csv")
    save_page(out / "evasion.md", overview(table), _SCRIPT)
    panels = {}
    for model, rows in table.groupby("model", sort=False):
        curves = {s: list(part["Accepted"]) for s, part in rows.groupby("System", sort=False)}
        panels[model] = [budget / 255 for budget in rows["Budget"].unique()], curves
    plot_accepted(panels, out / "evasion.png")


def overview(table: DataFrame) -> str:
    """
    :param table: rows of ``evasion.csv``
    :return: a line for each configuration and system
    """
    budgets = sorted(table["Budget"].unique())
    lines = [["images", "attacked", "system", *(f"{each:g}" for each in budgets), "half", "price"]]
    for (model, system), rows in table.groupby(["model", "System"], sort=False):
        shares = dict(zip(rows["Budget"], rows["Accepted"], strict=True))
        first = rows.iloc[0]
        cells = [f"{shares[each]:.2f}" if each in shares else "" for each in budgets]
        price, low, high = (f"{first[each]:.1f}" for each in ("Price", "Price low", "Price high"))
        cells += [f"{first['HalfBudget']:.1f}", f"{price} ({low} to {high})"]
        lines.append([model, str(first["Attacked"]), system, *cells])
    details = ", ".join(f"[{model}](evasion_{model}.md)" for model in table["model"].unique())
    return "\n\n".join(
        [
            "# The price of evasion",
            _READ,
            markdown(lines),
            f"What got through, sanity checks, and the commands: {details}.\n",
        ]
    )
