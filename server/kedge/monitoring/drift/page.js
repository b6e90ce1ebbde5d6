"use strict";
// Draws what JSON in #data says; each column only when it comes into sight, so that hundreds are fine.
const data = JSON.parse(document.getElementById("data").textContent);
const style = getComputedStyle(document.documentElement);
const colour = (name) => style.getPropertyValue("--" + name).trim();
const font = { family: "system-ui, sans-serif", size: 12, color: colour("soft") };
const quiet = { displayModeBar: false, responsive: true };
const axis = { gridcolor: colour("line"), zeroline: false, linecolor: colour("line") };
const common = { font, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
  showlegend: false, bargap: 0.02 };

function bars(picture, side, offset) {
  const shares = picture[side].map((share) => 100 * share);
  const trace = { type: "bar", y: shares, name: side,
    marker: { color: colour(side), opacity: picture.labels.length ? 1 : 0.55 } };
  if (picture.labels.length) {
    trace.x = picture.labels;
    trace.hovertemplate = "%{x}<br>%{y:.2f} %<extra>" + side + "</extra>";
  } else {
    const edges = picture.edges;
    trace.x = shares.map((_, i) => (edges[i] + edges[i + 1]) / 2);
    trace.width = shares.map((_, i) => edges[i + 1] - edges[i]);
    trace.customdata = shares.map((_, i) => [edges[i], edges[i + 1]]);
    trace.hovertemplate = "%{customdata[0]:.4g} to %{customdata[1]:.4g}<br>%{y:.2f} %<extra>"
      + side + "</extra>";
  }
  return trace;
}

function drawColumn(element) {
  const picture = data.columns[Number(element.dataset.column)];
  const isCategory = picture.labels.length > 0;
  const layout = { ...common, height: 190, margin: { l: 38, r: 6, t: 8, b: isCategory ? 52 : 28 },
    barmode: isCategory ? "group" : "overlay",
    xaxis: { ...axis, type: isCategory ? "category" : "linear", tickangle: isCategory ? "auto" : 0 },
    yaxis: { ...axis, ticksuffix: " %", nticks: 4 } };
  Plotly.newPlot(element, [bars(picture, "reference"), bars(picture, "current")], layout, quiet);
}

function drawOverview() {
  const shown = data.overview.slice(0, 40).reverse();
  const colours = shown.map((column) => colour(column.verdict === "drift" ? "drift" : "reference"));
  const trace = { type: "bar", orientation: "h", marker: { color: colours },
    y: shown.map((_, i) => i), x: shown.map((column) => column.strength),
    text: shown.map((column) => column.text), textposition: "outside", cliponaxis: false,
    hovertext: shown.map((column) => column.name), hovertemplate: "%{hovertext}<extra></extra>" };
  const most = Math.max(0.05, ...shown.map((column) => column.strength));
  const layout = { ...common, height: 60 + 24 * shown.length, bargap: 0.35,
    margin: { l: 170, r: 20, t: 10, b: 34 },
    xaxis: { ...axis, range: [0, 1.35 * most], title: { text: "strength (Hellinger distance)" } },
    yaxis: { ...axis, tickvals: shown.map((_, i) => i), ticktext: shown.map((c) => c.label) } };
  Plotly.newPlot("overview", [trace], layout, quiet);
}

drawOverview();
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      watcher.unobserve(entry.target);
      drawColumn(entry.target);
    }
  }
}, { rootMargin: "400px" });
document.querySelectorAll(".plot").forEach((element) => watcher.observe(element));
