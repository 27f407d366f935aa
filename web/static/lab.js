// Every page: relative times, and problems shown instead of swallowed.
"use strict";

const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function tellTime(element) {
  const seconds = (Date.parse(element.dateTime) - Date.now()) / 1000;
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) || UNITS[3];
  element.textContent = relative.format(Math.round(seconds / length), unit);
}

function tellTimes(root) {
  root.querySelectorAll("time[data-relative]").forEach(tellTime);
  root.querySelectorAll("time[data-clock]").forEach((element) => {
    element.textContent = new Date(element.dateTime).toLocaleTimeString([], { hour12: false });
  });
}

function complain(text) {
  const toast = document.getElementById("toast");
  toast.textContent = text;
  toast.hidden = false;
  clearTimeout(complain.timer);
  complain.timer = setTimeout(() => { toast.hidden = true; }, 8000);
}

document.addEventListener("DOMContentLoaded", () => {
  tellTimes(document);
  setInterval(() => tellTimes(document), 10000);
  document.body.addEventListener("htmx:afterSwap", () => tellTimes(document));
  document.body.addEventListener("htmx:responseError", (event) => {
    const answer = event.detail.xhr;
    if (answer.status === 401) { location.reload(); return; }
    let detail = answer.statusText || "The request failed.";
    try { detail = JSON.parse(answer.responseText).detail || detail; } catch { /* not a problem document */ }
    complain(detail);
  });
  document.body.addEventListener("htmx:sendError", () => complain("The lab does not answer; trying again."));
});
