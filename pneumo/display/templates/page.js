// A click on a column's name sorts its table, a second one the other way round.
const number = text => parseFloat(text.replace(/^[^-+.\d]*/, "").replace(/,(?=\d{3})/g, ""));
const compare = (a, b) => {
  const [x, y] = [number(a), number(b)];
  if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y) || a.localeCompare(b);
  return x - y;
};
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (body.rows.length < 3) continue;
  table.querySelectorAll("th").forEach((head, column) => {
    if (!head.textContent) return;
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort === "ascending";
      table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
      head.ariaSort = down ? "descending" : "ascending";
      const rows = [...body.rows].sort((a, b) => compare(a.cells[column].textContent, b.cells[column].textContent));
      body.append(...(down ? rows.reverse() : rows));
    });
  });
}
// A chart is drawn before its neighbours are there, or while it is folded, and fitted when its width is known.
const fit = part => part.querySelectorAll(".js-plotly-plot").forEach(chart => {
  if (chart.offsetWidth) Plotly.Plots.resize(chart);
});
addEventListener("load", () => fit(document));
for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", () => fit(details));
// On paper, a chart is scaled to its place.
const drawn = () => document.querySelectorAll(".chart .main-svg");
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach(each => { each.open = true; });
  drawn().forEach(svg => {
    svg.setAttribute("viewBox", "0 0 " + svg.getAttribute("width") + " " + svg.getAttribute("height"));
  });
});
addEventListener("afterprint", () => drawn().forEach(svg => svg.removeAttribute("viewBox")));
