"use strict";
// Zoom and pan: one transform for each drawing; both follow when a node is chosen by name.
const drawings = [...document.querySelectorAll(".drawing")].map((section) => {
  const svg = section.querySelector("svg"), view = svg.querySelector(".view");
  const d = { section, svg, view, x: 0, y: 0, scale: 1 };
  d.apply = () => view.setAttribute("transform", `translate(${d.x} ${d.y}) scale(${d.scale})`);
  d.zoom = (factor, px, py) => {
    const scale = Math.min(4, Math.max(0.02, d.scale * factor)), real = scale / d.scale;
    d.x = px - (px - d.x) * real; d.y = py - (py - d.y) * real; d.scale = scale; d.apply();
  };
  d.whole = () => {
    const box = svg.getBoundingClientRect(), w = +svg.dataset.width, h = +svg.dataset.height;
    d.scale = Math.min(1, box.width / w, box.height / h); d.x = (box.width - w * d.scale) / 2; d.y = 0; d.apply();
  };
  // text that can be read, the inputs on top
  d.start = () => {
    const box = svg.getBoundingClientRect();
    d.scale = Math.min(1, Math.max(0.6, box.width / +svg.dataset.width));
    d.x = (box.width - +svg.dataset.width * d.scale) / 2; d.y = 0; d.apply();
  };
  d.center = (node) => {
    const box = svg.getBoundingClientRect(), [x, y] = node.getAttribute("transform").match(/-?[\d.]+/g).map(Number);
    d.scale = Math.max(d.scale, 0.8); d.x = box.width / 2 - x * d.scale; d.y = box.height / 2 - y * d.scale; d.apply();
  };
  svg.addEventListener("wheel", (e) => {
    e.preventDefault();
    const box = svg.getBoundingClientRect();
    d.zoom(Math.exp(-e.deltaY / 400), e.clientX - box.left, e.clientY - box.top);
  }, { passive: false });
  let last = null;
  svg.addEventListener("pointerdown", (e) => { last = [e.clientX, e.clientY]; });
  window.addEventListener("pointermove", (e) => {
    if (!last) return;
    d.x += e.clientX - last[0]; d.y += e.clientY - last[1]; last = [e.clientX, e.clientY]; d.apply();
  });
  window.addEventListener("pointerup", () => { last = null; });
  for (const button of section.querySelectorAll("button")) button.addEventListener("click", () => {
    const box = svg.getBoundingClientRect(), factor = +button.dataset.zoom;
    if (factor) d.zoom(factor, box.width / 2, box.height / 2); else d.whole();
  });
  d.start();
  return d;
});

const nodes = [...document.querySelectorAll(".node")].map((element) => {
  const facts = JSON.parse(element.dataset.facts);
  const text = [element.dataset.name, ...Object.values(facts)].join(" ").toLowerCase();
  const drawing = drawings.find((d) => d.section.contains(element));
  return { element, name: element.dataset.name, facts, text, drawing };
});

// What a click on a node, or on a row of a table, shows.
const details = document.getElementById("details");
function choose(node, center) {
  for (const n of nodes) n.element.classList.toggle("chosen", n.name === node.name);
  details.replaceChildren();
  for (const n of nodes.filter((n) => n.name === node.name)) {
    const head = document.createElement("h3"), table = document.createElement("table");
    head.textContent = n.drawing.section.querySelector("h2").textContent + ": " + n.name;
    for (const [key, value] of Object.entries(n.facts)) {
      const row = table.insertRow(), th = document.createElement("th");
      th.textContent = key; row.append(th);
      row.insertCell().textContent = typeof value === "number" ? value.toLocaleString("en") : value;
    }
    details.append(head, table);
    if (center || n !== node) n.drawing.center(n.element);
  }
}
let down = [0, 0];
window.addEventListener("pointerdown", (e) => { down = [e.clientX, e.clientY]; }, true);
for (const node of nodes) {
  node.element.addEventListener("click", (e) => {
    if (Math.hypot(e.clientX - down[0], e.clientY - down[1]) < 5 || !e.detail) choose(node, false);
  });
  node.element.addEventListener("keydown", (e) => { if (e.key === "Enter") choose(node, true); });
}
for (const row of document.querySelectorAll("tr[data-name]")) row.addEventListener("click", () => {
  const node = nodes.find((n) => n.name === row.dataset.name);
  if (node) { choose(node, true); document.querySelector("main").scrollIntoView(); }
});

// Search: every word must occur in a node's name, op, type or source.
const search = document.getElementById("search"), hits = document.getElementById("hits");
let found = [], at = -1;
search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  found = words.length ? nodes.filter((n) => words.every((w) => n.text.includes(w))) : [];
  at = -1;
  document.body.classList.toggle("searching", words.length > 0);
  for (const n of nodes) n.element.classList.toggle("found", found.includes(n));
  hits.textContent = words.length ? `${found.length} found` : "";
});
search.addEventListener("keydown", (e) => {
  if (e.key === "Enter" && found.length) { at = (at + 1) % found.length; choose(found[at], true); }
});

// Colours: from white to red by cost, by loss for SQNR (the least is red); one hue for each precision.
const colour = document.getElementById("colour"), legend = document.getElementById("legend");
const hues = { f64: "#c9b6e4", f32: "#f6c6a8", f16: "#f9e4a7", bf16: "#f9e4a7", int8: "#a8d8b9", bits: "#9cc9f0" };
function paint() {
  const key = colour.value, unit = colour.selectedOptions[0].dataset.unit || "";
  const values = nodes.map((n) => n.facts[key]).filter((v) => typeof v === "number");
  const low = Math.min(...values), high = Math.max(...values), range = high - low || 1;
  for (const n of nodes) {
    const v = n.facts[key], rect = n.element.querySelector("rect");
    let fill = "";
    if (key === "precision" && v) fill = hues[v] || "#ddd";
    else if (typeof v === "number") {
      const share = key === "sqnr" ? (high - v) / range : v / (high || 1);
      fill = `hsl(14 90% ${Math.round(98 - 48 * share)}%)`;
    }
    rect.style.fill = fill;
  }
  const number = (v) => `${v.toLocaleString("en", { maximumSignificantDigits: 4 })} ${unit}`;
  if (key === "precision") legend.textContent = [...new Set(nodes.map((n) => n.facts[key]).filter(Boolean))].join(", ");
  else legend.textContent = values.length ? `${number(low)} to ${number(high)}` : "";
}
colour.addEventListener("change", paint);
if (colour.options.length > 1) { colour.selectedIndex = 1; paint(); }
document.body.dataset.ready = "true";
