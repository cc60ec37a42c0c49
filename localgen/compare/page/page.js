"use strict";

// Sorts a table by the column whose button is pressed, ascending first, then descending. Cells that
// were not measured stay at the end, and equal rows keep their order.
const collator = new Intl.Collator("en", { numeric: true });

function compareValues(a, b, isText) {
  return isText ? collator.compare(a, b) : Number(a) - Number(b);
}

function sortBy(table, column) {
  const headers = [...table.tHead.rows[0].cells];
  const header = headers[column];
  const isDown = header.getAttribute("aria-sort") === "ascending";
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, value: row.cells[column].dataset.value }));
  rows.sort((a, b) => {
    if (a.value === "" || b.value === "") return (a.value === "") - (b.value === "");
    const order = compareValues(a.value, b.value, header.dataset.kind === "text");
    return isDown ? -order : order;
  });
  headers.forEach((each) => each.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", isDown ? "descending" : "ascending");
  body.append(...rows.map(({ row }) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => sortBy(table, column));
  });
}
