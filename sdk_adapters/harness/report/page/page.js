// What the values under the pointer are. Without this the page shows all the same.
"use strict";
const charts = JSON.parse(document.getElementById("data").textContent);

const told = (value, unit) => {
  if (value === null) return "–";
  if (unit === "share") return `${+(value * 100).toPrecision(3)} %`;
  const size = Math.abs(value);
  const text = size >= 100 ? Math.round(value).toLocaleString("en") : `${+value.toPrecision(3)}`;
  return `${text} ${unit}`.trim();
};

const entry = (line, value, unit) => {
  const row = document.createElement("div");
  const swatch = document.createElement("i");
  swatch.className = `swatch ${line.colour}`;
  row.append(swatch, `${line.name} `);
  const figure = document.createElement("b");
  figure.textContent = told(value, unit);
  row.append(figure);
  return row;
};

for (const plot of document.querySelectorAll("[data-chart]")) {
  const chart = charts[plot.dataset.chart];
  const rule = plot.querySelector(".rule");
  const tip = plot.querySelector(".tip");
  const hide = () => plot.classList.remove("pointed");
  const show = (event) => {
    const box = plot.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * 100;
    let near = 0;
    chart.at.forEach((each, index) => {
      if (Math.abs(each - at) < Math.abs(chart.at[near] - at)) near = index;
    });
    const name = document.createElement("div");
    name.textContent = chart.points[near];
    const lines = chart.lines.map((line) => entry(line, line.values[near], chart.unit));
    tip.replaceChildren(name, ...lines);
    rule.style.left = `${chart.at[near]}%`;
    tip.style.left = `${chart.at[near]}%`;
    tip.classList.toggle("leftwards", chart.at[near] > 50);
    plot.classList.add("pointed");
  };
  plot.addEventListener("pointermove", show);
  plot.addEventListener("pointerdown", show);
  plot.addEventListener("pointerleave", hide);
}
