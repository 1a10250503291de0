// What pages do beyond plain HTML. Everything works without it, less comfortably.
import { drawCharts } from "./charts.js";
import { offerCopying } from "./copying.js";

function wake(root) {
  offerCopying(root);
  drawCharts(root);
}

wake(document);
document.body.addEventListener("htmx:load", (event) => {
  if (event.detail.elt !== document.body) wake(event.detail.elt);
});

// A menu left open closes when attention moves elsewhere, or with Escape.
const menus = () => document.querySelectorAll("details.whose[open]");
document.addEventListener("click", (event) => {
  for (const menu of menus()) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of menus()) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// In a narrow window the current section is scrolled into the strip of sections.
document.querySelector('.side nav [aria-current="page"]')?.scrollIntoView({ block: "nearest", inline: "center" });

for (const button of document.querySelectorAll("button[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => window.print());
}

// The reader's own time zone is the likeliest one for a new organization.
const zone = document.querySelector("select[data-guess-zone]");
const guess = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && zone.value === "UTC" && [...zone.options].some((option) => option.value === guess)) {
  zone.value = guess;
}
