// Draws every [data-chart] from the JSON beside it. Colours come from the style sheet.
const charts = new Map();

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const locale = document.documentElement.dataset.locale || navigator.language;
const whole = new Intl.NumberFormat(locale);
const compact = new Intl.NumberFormat(locale, { notation: "compact", maximumFractionDigits: 1 });

function dataset(series, data) {
  const shared = { label: series.label, data: series.data };
  if (data.kind === "line") {
    return { ...shared, borderColor: colour(`--c${series.swatch}`), backgroundColor: colour(`--c${series.swatch}`), borderWidth: 2, pointRadius: 0, pointHitRadius: 12, tension: 0 };
  }
  return { ...shared, backgroundColor: colour(`--c${series.swatch}`), borderColor: colour("--card"), borderWidth: { top: 1 }, borderSkipped: false, maxBarThickness: 44, categoryPercentage: 0.86, barPercentage: 0.96 };
}

function options(data) {
  const soft = colour("--soft");
  const line = colour("--line");
  // A line of money stands by itself; quantities are stacked and add up.
  const money = data.currency && new Intl.NumberFormat(locale, { style: "currency", currency: data.currency });
  const ticks = money ? new Intl.NumberFormat(locale, { style: "currency", currency: data.currency, notation: "compact", maximumFractionDigits: 1 }) : compact;
  const written = (value) => (money ?? whole).format(value);
  const sum = (items) => items.reduce((total, item) => total + item.parsed.y, 0);
  return {
    responsive: true,
    maintainAspectRatio: false,
    animation: false,
    interaction: { mode: "index", intersect: false },
    font: { family: getComputedStyle(document.body).fontFamily },
    scales: {
      x: { stacked: !money, title: { display: Boolean(data.across), text: data.across, color: soft }, grid: { display: false }, border: { color: line }, ticks: { color: soft, maxRotation: 0, autoSkipPadding: 14 } },
      y: { stacked: !money, beginAtZero: true, border: { display: false }, grid: { color: line }, ticks: { color: soft, maxTicksLimit: 6, callback: (value) => ticks.format(value) } },
    },
    plugins: {
      legend: { display: false },
      tooltip: {
        backgroundColor: colour("--ink"), titleColor: colour("--card"), bodyColor: colour("--card"), footerColor: colour("--card"),
        padding: 10, boxPadding: 4, itemSort: (a, b) => b.parsed.y - a.parsed.y, filter: (item) => money || item.parsed.y !== 0,
        callbacks: {
          label: (item) => ` ${item.dataset.label}: ${written(item.parsed.y)}`,
          footer: (items) => (items.length > 1 && !money ? `Together: ${whole.format(sum(items))} ${data.unit}` : ""),
        },
      },
    },
  };
}

function draw(canvas) {
  const data = JSON.parse(document.getElementById(canvas.dataset.chart).textContent);
  charts.get(canvas)?.destroy();
  const config = { type: data.kind ?? "bar", data: { labels: data.labels, datasets: data.series.map((series) => dataset(series, data)) }, options: options(data) };
  charts.set(canvas, new window.Chart(canvas, config));
  canvas.dataset.drawn = "yes";
}

export function drawCharts(root) {
  for (const canvas of charts.keys()) {
    if (!canvas.isConnected) {
      charts.get(canvas).destroy();
      charts.delete(canvas);
    }
  }
  if (!window.Chart) return;
  window.Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  for (const canvas of root.querySelectorAll("canvas[data-chart]")) draw(canvas);
}

window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawCharts(document));
