
"use strict";
{
  const table = document.getElementById("layers");
  const body = table.tBodies[0];
  const inOrder = [...body.rows];
  const layers = inOrder.filter((row) => row.classList.contains("layer"));
  const headings = [...table.tHead.rows[0].cells];

  const value = (row, column) => {
    const cell = row.cells[column];
    if (!("value" in cell.dataset)) return cell.textContent;
    return cell.dataset.value === "" ? -Infinity : Number(cell.dataset.value);
  };
  const compare = (a, b) =>
    typeof a === "number" ? (a === b ? 0 : a - b) : a.localeCompare(b, undefined, { numeric: true });

  // Modules are rows of their own only in the order of execution.
  const sortBy = (column) => {
    const heading = headings[column];
    const first = heading.classList.contains("number") && column > 0 ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = heading.getAttribute("aria-sort") === first ? other : first;
    headings.forEach((cell) => cell.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const rows = column === 0 && sign === 1
      ? inOrder
      : [...layers].sort((a, b) => sign * compare(value(a, column), value(b, column)));
    body.replaceChildren(...rows);
  };
  headings.forEach((heading, column) =>
    heading.querySelector("button").addEventListener("click", () => sortBy(column)));

  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const row of inOrder) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });

  const selected = document.getElementById("selected");
  const caption = document.getElementById("caption");
  const targets = new Map(
    [...document.querySelectorAll(".target")].map((target) => [target.dataset.layer, target]));
  const rows = new Map(layers.map((row) => [row.dataset.layer, row]));
  let chosen = [];
  const choose = (layer) => {
    chosen.forEach((element) => element.classList.remove("chosen"));
    chosen = [rows.get(layer), targets.get(layer)].filter(Boolean);
    chosen.forEach((element) => element.classList.add("chosen"));
    const row = rows.get(layer);
    if (!selected || !row) return;
    const [x, y, width, height] = (row.dataset.box || "0 0 0 0").split(" ");
    for (const [name, number] of Object.entries({ x, y, width, height })) {
      selected.setAttribute(name, number);
    }
    const [, name, , , , , sees, stride] = [...row.cells].map((cell) => cell.textContent);
    caption.textContent = `${name} sees ${sees || "no pixel"}${stride ? `, stride ${stride}` : ""}.`;
  };
  for (const row of layers) {
    row.tabIndex = -1;
    row.addEventListener("mouseenter", () => choose(row.dataset.layer));
    row.addEventListener("focus", () => choose(row.dataset.layer));
  }
  body.addEventListener("keydown", (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    let row = step && event.target.closest("tr")?.[step];
    while (row && (row.hidden || !row.dataset.layer)) row = row[step];
    if (!row) return;
    event.preventDefault();
    row.focus();
  });
  // One row can be reached with the Tab key; the arrows go on from there.
  if (layers.length) layers[0].tabIndex = 0;
  for (const [layer, target] of targets) {
    target.addEventListener("mouseenter", () => choose(layer));
    target.addEventListener("click", () =>
      rows.get(layer).scrollIntoView({ block: "nearest" }));
  }
  const last = layers.filter((row) => row.dataset.box).pop();
  if (last) choose(last.dataset.layer);
}
