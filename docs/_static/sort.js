// Click on a column's head to sort its table; once more for the other direction. Numbers go by their first number.
document.querySelectorAll("article table.table, article table.docutils").forEach((table) => {
  const body = table.tBodies[0];
  if (!table.tHead || !body || body.rows.length < 3) return;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const key = (row) => {
      const text = row.cells[column] ? row.cells[column].textContent.trim() : "";
      const number = /^[^\d-]{0,3}(-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?)/i.exec(text);
      return /^\d{4}-\d\d-\d\d/.test(text) || !number ? text : parseFloat(number[1].replace(/,/g, ""));
    };
    const sort = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const compare = (a, b) =>
        a === "" || b === "" ? (a === "") - (b === "") // nothing comes last, in both directions
        : (up ? 1 : -1) * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      [...body.rows].map((row) => [key(row), row]).sort((a, b) => compare(a[0], b[0])).forEach(([, row]) => body.append(row));
    };
    head.classList.add("sortable");
    head.tabIndex = 0;
    head.title = "Sort by this column";
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  });
});
