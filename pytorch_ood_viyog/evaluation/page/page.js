// Tables sort by the column whose head is pressed: numbers first downwards, names first upwards.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const rows = [...table.tBodies[0].rows];
      const text = (row) => row.cells[column].textContent.trim();
      const number = (row) => Number.parseFloat(text(row));
      const missing = rows.filter((row) => text(row) === "–");
      const known = rows.filter((row) => !missing.includes(row));
      const numeric = known.every((row) => !Number.isNaN(number(row)));
      const was = head.getAttribute("aria-sort");
      const down = was ? was === "ascending" : numeric;
      const compare = numeric
        ? (a, b) => number(a) - number(b)
        : (a, b) => text(a).localeCompare(text(b));
      known.sort(compare);
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      table.tBodies[0].append(...(down ? known.reverse() : known), ...missing);
    });
  });
}
