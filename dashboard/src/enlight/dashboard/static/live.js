// Parts of a page that are asked for again while somebody looks at them, every `data-live` seconds: parts/live.html.

import "./patch.js";

const LOOK_MS = 1000;
const AWAY_S = 4;

const parts = [...document.querySelectorAll("[data-live]")];
const askedAt = new Map(parts.map((part) => [part, Date.now()]));
const noticeOf = (part) => document.querySelector(`[data-away-of="${part.id}"]`);

function ask(part) {
  askedAt.set(part, Date.now());
  window.htmx.trigger(part, "refresh");
}

function isDue(part) {
  const everySeconds = noticeOf(part).hidden ? Number(part.dataset.live) : AWAY_S;
  return Date.now() - askedAt.get(part) >= everySeconds * 1000;
}

function sayAway(part, reason) {
  const notice = noticeOf(part);
  part.classList.toggle("old", Boolean(reason));
  notice.hidden = !reason;
  const text = notice.querySelector("[data-reason]");
  if (reason && text.textContent !== reason) {
    text.textContent = reason; // only when it is another one: it is read aloud
  }
}

/** What the server's page about an error says. */
function reasonIn(html) {
  return new DOMParser().parseFromString(html, "text/html").querySelector("p")?.textContent.trim();
}

setInterval(() => {
  if (document.visibilityState === "visible") {
    parts.filter(isDue).forEach(ask);
  }
}, LOOK_MS);

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") {
    parts.forEach(ask);
  }
});

document.body.addEventListener("changed", () => parts.forEach(ask));

// A failure is said where the figures are, once, and not as a notice every few seconds.
document.body.addEventListener("htmx:beforeSwap", (event) => {
  const part = event.detail.requestConfig.elt;
  if (part.matches("[data-live]")) {
    const failed = event.detail.xhr.status >= 400;
    event.detail.shouldSwap = !failed;
    sayAway(part, failed ? reasonIn(event.detail.xhr.responseText) || "The server had a problem." : "");
  }
});

document.body.addEventListener("htmx:sendError", (event) => {
  if (event.target.matches("[data-live]")) {
    sayAway(event.target, "This page cannot reach its server.");
  }
});
